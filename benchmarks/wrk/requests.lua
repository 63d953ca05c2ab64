-- Orders, sent by wrk. What stands after its "--" are the names and values of the table below:
-- `kind fresh` sends a new key each time, `replay` one key for each thread, `bare` none; `key` is
-- one key for all. Ends with a line of JSON, times in seconds.

local options = {
   kind = "fresh",
   seed = "1",
   key = "",
   header = "Idempotency-Key",
   body = "{}",
}
local threads = {}

-- Globals of a thread, for `done` to read: wrk hands over numbers and strings.
seen, repeated = "", 0
local last, request_of_thread

local function uuid()
   local word = function() return math.random(0, 0xffff) end
   return string.format("%04x%04x-%04x-4%03x-a%03x-%04x%04x%04x", word(), word(), word(),
      math.random(0, 0xfff), math.random(0, 0xfff), word(), word(), word())
end

local function order(key)
   wrk.headers[options.header] = key
   return wrk.format()
end

function setup(thread)
   table.insert(threads, thread)
   thread:set("number", #threads)
end

function init(arguments)
   for index = 1, #arguments, 2 do
      options[arguments[index]] = arguments[index + 1]
   end
   math.randomseed(tonumber(options.seed) * 1000 + number)
   wrk.method, wrk.body = "POST", options.body
   wrk.headers["Content-Type"] = "application/json"
   if options.key ~= "" then
      request_of_thread = order(options.key)
   elseif options.kind == "replay" then
      request_of_thread = order(uuid())
   elseif options.kind == "bare" then
      request_of_thread = order(nil)
   end
end

function request()
   return request_of_thread or order(uuid())
end

function response(status, headers, body)
   local name = "status_" .. status
   if not _G[name] then seen = seen .. " " .. status end
   _G[name] = (_G[name] or 0) + 1
   if body == last then repeated = repeated + 1 end
   last = body
end

local function statuses()
   local counts, parts = {}, {}
   for _, thread in ipairs(threads) do
      for status in thread:get("seen"):gmatch("%d+") do
         counts[status] = (counts[status] or 0) + thread:get("status_" .. status)
      end
   end
   for status, count in pairs(counts) do
      table.insert(parts, string.format('"%s": %d', status, count))
   end
   return "{" .. table.concat(parts, ", ") .. "}"
end

function done(summary, latency)
   local same, errors = 0, summary.errors
   for _, thread in ipairs(threads) do same = same + thread:get("repeated") end
   print(string.format(
      '{"seconds": %.6f, "p50": %.6f, "p99": %.6f, "statuses": %s, "repeated": %d, "lost": %d}',
      summary.duration / 1e6, latency:percentile(50) / 1e6, latency:percentile(99) / 1e6,
      statuses(), same, errors.connect + errors.read + errors.write + errors.timeout))
end
