// sqs-consumer in batch mode: the four bare statements for each message, the batch in one transaction.
// Usage: node consume.mjs STATEMENTS_FILE QUEUE_URL
import { readFileSync } from "node:fs";
import { SQSClient } from "@aws-sdk/client-sqs";
import pg from "pg";
import { Consumer } from "sqs-consumer";

const [statementsFile, queueUrl] = process.argv.slice(2);
const statements = JSON.parse(readFileSync(statementsFile, "utf8"));
const client = new pg.Client({ connectionString: process.env.PEER_DATABASE_URL });
await client.connect();

async function handle(message) {
  const { tenant, payload } = JSON.parse(message.Body).detail;
  const parameters = [Number(tenant.slice(-3)), payload.id];
  for (const [index, text] of statements.entries()) {
    const values = text.includes("$2") ? parameters : parameters.slice(0, 1);
    await client.query({ name: `bare-${index}`, text, values });
  }
}

const consumer = Consumer.create({
  queueUrl,
  sqs: new SQSClient({ endpoint: process.env.AWS_ENDPOINT_URL }),
  batchSize: 10,
  waitTimeSeconds: 20,
  async handleMessageBatch(messages) {
    await client.query("BEGIN");
    for (const message of messages) await handle(message);
    await client.query("COMMIT");
    return messages;
  },
});
for (const event of ["error", "processing_error"]) {
  consumer.on(event, (error) => {
    console.error(error);
    process.exit(1);
  });
}
consumer.start();
console.log("consuming");
