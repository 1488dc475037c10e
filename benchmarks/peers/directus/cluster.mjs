// Directus in two processes that share its port, as it has two cores here.
import cluster from "node:cluster";

if (cluster.isPrimary) {
  for (let number = 0; number < 2; number += 1) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.kill("SIGKILL");
    process.exit(0);
  });
} else {
  process.argv = [process.argv[0], "directus", "start"];
  await import("@directus/api/cli/run.js");
}
