-- Whether the engines get on with their requests, read off their /metrics every two seconds (dict `states`, `progress|REPLICA`).
-- /health says nothing about that: vLLM's API server answers it while the engine behind it hangs.

local cjson = require "cjson"

local deployment = require "gateway.deployment"
local load = require "gateway.load"
local probes = require "gateway.probes"
local replies = require "gateway.replies"

-- All of these change only when the engine has made a step. The last three move during a long prefill, whose tokens are
-- counted when it has ended.
local MOVING = {
  "vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:generation_tokens_total", "vllm:prompt_tokens_total",
  "vllm:prefix_cache_queries_total", "vllm:iteration_tokens_total_count", "vllm:kv_cache_usage_perc",
}
local STALE_SECONDS = 7
-- Shorter than the time between two looks.
local PATIENCE_SECONDS = 1.5

local states = ngx.shared.states

local progress = {}

-- The sum of a metric's series, which follow each other: one an engine of data parallelism. No pattern over 94 KB.
local function sum(text, name)
  local mark = "\n" .. name .. "{"
  local at = text:find(mark, 1, true)
  if not at then
    return nil
  end
  local total = 0
  while at and text:sub(at, at + #mark - 1) == mark do
    local stop = text:find("\n", at + 1, true)
    total = total + (tonumber(text:sub(at + 1, (stop or #text + 1) - 1):match(" (%S+)$")) or 0)
    at = stop
  end
  return total
end

-- When the engine's process began, unix seconds; nil where several API servers share the metrics.
local function process_start(text)
  local name = "\nprocess_start_time_seconds "
  local at = text:find(name, 1, true)
  return at and tonumber(text:match("^%S+", at + #name))
end

-- {read, moved, print, busy, start}: when it was read and when anything in it last changed (seconds), whether there is work to
-- do, and when the process began. Work is also what this gateway has sent and vLLM's gauges do not have: an engine that
-- hangs in its first step has never told of it.
local function following(before, text, in_flight)
  local values = {}
  for i, name in ipairs(MOVING) do
    values[i] = sum(text, name) or "none"
  end
  if values[1] == "none" then
    return nil
  end
  local print = table.concat(values, " ")
  local now = ngx.now()
  local busy = values[1] + (tonumber(values[2]) or 0) + in_flight > 0
  local stands = busy and before and before.print == print
  return {read = now, moved = stands and before.moved or now, print = print, busy = busy, start = process_start(text)}
end

--- What was read last, or nil where that was too long ago: what is not known is neither idle nor hung.
function progress.of(replica)
  local text = states:get("progress|" .. replica)
  local last = text and cjson.decode(text)
  return last and ngx.now() - last.read < STALE_SECONDS and last or nil
end

local function measure(replica)
  local status, text = replies.ask(replica, {path = "/metrics", seconds = PATIENCE_SECONDS})
  local read = status == 200 and following(progress.of(replica), text, (load.of(replica)))
  if read then
    states:set("progress|" .. replica, cjson.encode(read))
  end
end

--- Every two seconds: of all replicas that answered the last /health.
function progress.measure_all()
  deployment.each_replica(function(_, replica)
    if probes.health(replica) == "HTTP 200" then
      ngx.thread.spawn(measure, replica)
    end
  end)
end

return progress
