-- Requests from a file of lines METHOD, path, headers ("Name: value;Name: value") and body, parted by tabs, in turn.
-- %KEY% becomes a new key, %PICK% a number from 1 to PICKS.
-- Arguments: file, prefix of new keys, PICKS, milliseconds that a connection waits before each request.
local lines, turn, made, prefix, picks, wait = {}, 0, 0, "", 1, 0
succeeded, refused = 0, 0
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  prefix, picks, wait = args[2], tonumber(args[3]), tonumber(args[4])
  math.randomseed(os.time())
  for line in io.lines(args[1]) do
    local method, path, headers, body = line:match("^(.-)\t(.-)\t(.-)\t(.*)$")
    local parsed = { ["Content-Type"] = "application/json" }
    for name, value in headers:gmatch("([^:;]+): ([^;]+)") do
      parsed[name] = value
    end
    table.insert(lines, { method, path, parsed, body })
  end
end

function delay()
  return wait == 0 and 0 or math.random(2 * wait)
end

local function filled(text, key)
  return (text:gsub("%%KEY%%", key):gsub("%%PICK%%", function() return tostring(math.random(picks)) end))
end

function request()
  turn, made = turn % #lines + 1, made + 1
  local method, path, headers, body = unpack(lines[turn])
  local key = prefix .. made
  return wrk.format(method, filled(path, key), headers, body ~= "" and filled(body, key) or nil)
end

function response(status)
  if status < 400 then
    succeeded = succeeded + 1
  else
    refused = refused + 1
  end
end

function done(summary, latency, requests)
  local good, bad = 0, 0
  for _, thread in ipairs(threads) do
    good, bad = good + thread:get("succeeded"), bad + thread:get("refused")
  end
  io.write(string.format('{"seconds": %f, "succeeded": %d, "refused": %d, "p50_ms": %f, "p99_ms": %f, "faults": %d}\n',
    summary.duration / 1e6, good, bad, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout))
end
