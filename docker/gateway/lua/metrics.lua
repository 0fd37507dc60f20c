-- Prometheus text of what counters.lua, load.lua and health.lua keep. Labels are bounded: models, splits, replicas and keys of
-- the deployment, HTTP statuses, and words of this gateway's own.

local counters = require "gateway.counters"
local deployment = require "gateway.deployment"
local health = require "gateway.health"
local load = require "gateway.load"

-- What alerts count is there as 0 before its first event: a series that begins with 1 has no increase.
local SHED = {"full", "no_replica", "queue_timeout"}
local EJECTED = {"hung", "refused", "restarted", "silent", "status", "unnamed", "unreachable"}
local STATES = {"unknown", "starting", "serving", "dead", "hung", "draining"}

local metrics = {}

local function zeros()
  local found = {}
  for _, model in ipairs(deployment.models) do
    for _, reason in ipairs(SHED) do
      found["sheds_total|" .. model.name .. "|" .. reason] = 0
    end
  end
  deployment.each_replica(function(model, replica)
    for _, reason in ipairs(EJECTED) do
      found["ejections_total|" .. model.name .. "|" .. replica .. "|" .. reason] = 0
    end
  end)
  return found
end

-- Every counter, and their keys in order.
local function all()
  local dict = ngx.shared.counters
  local found, keys = zeros(), {}
  for _, key in ipairs(dict:get_keys(0)) do
    found[key] = dict:get(key)
  end
  for key in pairs(found) do
    keys[#keys + 1] = key
  end
  table.sort(keys)
  return {values = found, keys = keys}
end

local function family(name, kind, help, samples)
  local full = "vllmstack_gateway_" .. name
  local lines = {"# HELP " .. full .. " " .. help, "# TYPE " .. full .. " " .. kind}
  for _, sample in ipairs(samples) do
    lines[#lines + 1] = full .. sample
  end
  return table.concat(lines, "\n") .. "\n"
end

local function histogram(name, help, counted)
  local samples = {}
  for _, route in ipairs(deployment.models) do
    local model, count = route.name, 0
    for i = 1, #counters.BOUNDS + 1 do
      local bound = counters.BOUNDS[i] or "+Inf"
      count = count + (counted.values[name .. "_bucket|" .. model .. "|" .. bound] or 0)
      samples[#samples + 1] = ('_bucket{model="%s",le="%s"} %d'):format(model, bound, count)
    end
    samples[#samples + 1] = ('_sum{model="%s"} %.6f'):format(model, counted.values[name .. "_sum|" .. model] or 0)
    samples[#samples + 1] = ('_count{model="%s"} %d'):format(model, count)
  end
  return family(name, "histogram", help, samples)
end

local function counter(name, labels, help, counted)
  local samples = {}
  local start = name .. "|"
  for _, key in ipairs(counted.keys) do
    if key:sub(1, #start) == start then
      local pairs_of, i = {}, 0
      for value in (key:sub(#start + 1) .. "|"):gmatch("([^|]*)|") do
        i = i + 1
        if labels[i] then
          pairs_of[i] = labels[i] .. '="' .. value .. '"'
        end
      end
      samples[#samples + 1] = "{" .. table.concat(pairs_of, ",") .. "} " .. counted.values[key]
    end
  end
  return family(name, "counter", help, samples)
end

-- One value for each replica.
local function gauge(name, help, value)
  local samples = {}
  deployment.each_replica(function(model, replica)
    samples[#samples + 1] = ('{model="%s",replica="%s"} %s'):format(model.name, replica, value(replica))
  end)
  return family(name, "gauge", help, samples)
end

local function queued()
  local samples = {}
  for _, model in ipairs(deployment.models) do
    for _, rank in ipairs({"interactive", "batch"}) do
      local value = load.held(model.waiting_of[rank])
      samples[#samples + 1] = ('{model="%s",priority="%s"} %d'):format(model.name, rank, value)
    end
  end
  return family("queued_requests", "gauge", "Requests that wait at the gateway for room or for a replica.", samples)
end

-- One series a state: alerts look back at what a replica has been.
local function states()
  local samples = {}
  deployment.each_replica(function(model, replica)
    local now = health.of(replica).state
    for _, state in ipairs(STATES) do
      samples[#samples + 1] = ('{model="%s",replica="%s",state="%s"} %d'):format(model.name, replica, state, now == state and 1 or 0)
    end
  end)
  return family("replica_state", "gauge", "1 for the state that the replica is in.", samples)
end

local function any_draining(model)
  for _, replica in ipairs(model.replicas) do
    if health.of(replica).state == "draining" then
      return true
    end
  end
end

-- From the first time on that a model could be asked: until then it is being started, and nobody counts on it. Nor while
-- its only replica is drained: its requests wait, and somebody wanted that.
local function available()
  local samples = {}
  for _, model in ipairs(deployment.models) do
    local ready = health.status(model).ready
    if ready then
      ngx.shared.states:set("served|" .. model.name, true)
    end
    if ready or (ngx.shared.states:get("served|" .. model.name) and not any_draining(model)) then
      samples[#samples + 1] = ('{model="%s"} %d'):format(model.name, ready and 1 or 0)
    end
  end
  return family("model_available", "gauge", "Whether any replica gets requests; once one has, since this gateway began.", samples)
end

local function connections()
  local samples = {}
  for i, state in ipairs({"active", "reading", "writing", "waiting"}) do
    samples[i] = ('{state="%s"} %s'):format(state, ngx.var["connections_" .. state])
  end
  return family("connections", "gauge", "Client connections by state.", samples)
end

--- GET /metrics on the internal port.
function metrics.expose()
  local counted = all()
  ngx.header["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
  ngx.print({
    counter("requests_total", {"model", "replica", "key", "code"},
      "Requests that ended, by model, the replica that answered last, the API key's name and HTTP status.", counted),
    counter("upstream_retries_total", {"model", "replica"}, "Requests that this replica failed and another then tried.", counted),
    counter("sheds_total", {"model", "reason"}, "Requests refused because the model was full, or had no replica.", counted),
    counter("ejections_total", {"model", "replica", "reason"}, "Times that a replica was taken out.", counted),
    counter("tokens_total", {"model", "key", "kind"}, "Tokens by what the engines' usage told: prompt and completion.", counted),
    counter("prompt_tokens_routed_total", {"model"}, "Tokens of prompts, estimated at four bytes each.", counted),
    counter("prompt_tokens_matched_total", {"model"},
      "Of these, those in a prefix that the chosen replica was given before.", counted),
    counter("split_requests_total", {"split", "model"}, "Requests for a name that stands for several models, by model.", counted),
    counter("mirrored_total", {"model"}, "Requests that were also sent to this model, its answers unused.", counted),
    gauge("requests_in_flight", "Requests that were given to a replica and have not ended.", function(replica)
      return (load.of(replica))
    end),
    gauge("pending_prompt_tokens", "Prompt tokens of requests without a first byte yet.", function(replica)
      return (select(2, load.of(replica)))
    end),
    queued(),
    histogram("queue_seconds", "How long requests waited at the gateway, of those that had to wait.", counted),
    histogram("first_byte_seconds", "From the first byte read of a request to the first of its answer's body.", counted),
    histogram("request_duration_seconds", "From the first byte read of a request to the last sent of its answer.", counted),
    gauge("replica_answers", "Whether the replica answered its last health check.", function(replica)
      return ngx.shared.replicas:get("state " .. replica) == "HTTP 200" and 1 or 0
    end),
    gauge("replica_takes_requests",
      "Whether the replica gets requests: 0 while it is dead, hung, starting or drained,"
        .. " and from a request that could not connect to it until the next look at it.",
      function(replica)
        return ngx.shared.load:get("a|" .. replica) == 0 and 0 or 1
      end),
    states(),
    available(),
    connections(),
  })
end

return metrics
