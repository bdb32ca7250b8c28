-- wrk.lua MODE SIZE KEYS SALT: what wrk asks for, and how it reports.
--   same    the URL on the command line, again and again
--   many    /SIZE/k0 to /SIZE/k(KEYS-1), Zipf-like: key k about 1/k as often as key 1
--   unique  /SIZE/uSALT-N, each one once
local mode, size, keys, salt

function init(args)
  mode, size, keys, salt = args[1], args[2], tonumber(args[3]), args[4]
  if mode == "many" then
    local requests, i, n = {}, 0, 65536
    math.randomseed(42)
    for j = 1, n do
      local k = math.floor(keys ^ math.random())
      requests[j] = wrk.format("GET", "/" .. size .. "/k" .. (k % keys))
    end
    request = function()
      i = i % n + 1
      return requests[i]
    end
  elseif mode == "unique" then
    local before, after = string.match(wrk.format("GET", "/" .. size .. "/u" .. salt .. "-@"), "^([^@]*)@(.*)$")
    local i = 0
    request = function()
      i = i + 1
      return before .. i .. after
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("result requests=%d bytes=%d duration_us=%d p50_us=%d p99_us=%d connect=%d read=%d write=%d status=%d timeout=%d\n",
    summary.requests, summary.bytes, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect, e.read, e.write, e.status, e.timeout))
end
