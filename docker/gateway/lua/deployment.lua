-- What is deployed, from routes.json: read when nginx starts or reloads, before it has workers.
--
-- Of each model also the names of what is counted of it in shared memory, made once: a request makes none of them.

local cjson = require "cjson"

local digest = require("gateway.prefix").digest
local files = require "gateway.files"

local FILE = "/etc/vllmstack/gateway/routes.json"

local routes = cjson.decode(files.read(FILE))
local deployment = {
  api_keys = routes.api_keys,
  requests_per_minute = routes.requests_per_minute ~= cjson.null and routes.requests_per_minute or nil,
  models = routes.models,
}

for _, model in ipairs(routes.models) do
  local name = model.name
  model.states, model.loads, model.adapts, model.seeds = {}, {}, {}, {}
  for number, replica in ipairs(model.replicas) do
    model.states[number] = "a|" .. replica
    model.loads[number] = "l|" .. replica
  end
  for _, adapter in ipairs(model.adapters) do
    model.adapts[adapter] = true
    model.seeds[adapter] = digest(0, model.pool .. " " .. adapter) -- an adapter's KV cache is not its base model's
  end
  model.seed = digest(0, model.pool)
  model.waiting = "w|" .. name
  model.waiting_of = {interactive = "w|" .. name .. "|interactive", batch = "w|" .. name .. "|batch"}
  model.service = "s|" .. name
  model.turns = "r|" .. name
  model.routed = "prompt_tokens_routed_total|" .. name
  model.matched = "prompt_tokens_matched_total|" .. name
end

-- JSON counts from 0.
for _, split in pairs(routes.splits) do
  for _, weight in ipairs(split.weights) do
    weight[1] = routes.models[weight[1] + 1]
  end
  split.mirror = split.mirror ~= cjson.null and split.mirror or nil
  if split.mirror then
    split.mirror.model = routes.models[split.mirror.model + 1]
  end
end

--- Every name that clients may use: of models, their aliases and adapters, and of splits; as the deployment lists them.
function deployment.names()
  return routes.listed
end

--- Calls `run` with each model and each of its replicas, in the deployment's order.
function deployment.each_replica(run)
  for _, model in ipairs(deployment.models) do
    for _, replica in ipairs(model.replicas) do
      run(model, replica)
    end
  end
end

--- The model behind a name or alias, or nil.
function deployment.find(name)
  local index = routes.names[name]
  return index and routes.models[index + 1]
end

--- {weights = {{model, share}, …}, mirror = {model, ratio} or nil} of a name that stands for several models, or nil.
function deployment.split(name)
  return routes.splits[name]
end

--- The model whose facts a name's entry tells; of a split, the first.
function deployment.behind(name)
  local split = deployment.split(name)
  return split and split.weights[1][1] or deployment.find(name)
end

return deployment
