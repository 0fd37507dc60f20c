-- /v1/models of all models together: the names from the deployment, the context length from a replica that answers.

local cjson = require "cjson"

local deployment = require "gateway.deployment"
local errors = require "gateway.errors"
local json = require "gateway.json"
local keys = require "gateway.keys"
local replies = require "gateway.replies"

local PATIENCE_SECONDS = 0.5
local KEPT_SECONDS = 60

local dict = ngx.shared.facts

local models = {}

-- A replica's own entry for the model; nil where it has none.
local function ask(replica)
  local status, text = replies.ask(replica, {path = "/v1/models", seconds = PATIENCE_SECONDS})
  local ok, reply = pcall(cjson.decode, status == 200 and text or "")
  return ok and reply.data and reply.data[1] or nil
end

-- The first entry that any replica gives in time, or nil.
local function first_answer(model)
  local threads = {}
  for number, replica in ipairs(model.replicas) do
    threads[number] = ngx.thread.spawn(ask, replica)
  end
  local found
  for _ = 1, #threads do
    local ok, entry = ngx.thread.wait(unpack(threads))
    found = found or ok and entry or nil
    if found then
      break
    end
  end
  for _, thread in ipairs(threads) do
    ngx.thread.kill(thread)
  end
  return found
end

--- {max_model_len, created} of a model; kept for a minute, and null while no replica answers quickly.
function models.facts(model)
  local kept = dict:get(model.name)
  if kept then
    return cjson.decode(kept)
  end
  local found = first_answer(model)
  if not found then
    return {max_model_len = ngx.null, created = 0}
  end
  local facts = {max_model_len = found.max_model_len or ngx.null, created = found.created or 0}
  dict:set(model.name, cjson.encode(facts), KEPT_SECONDS)
  return facts
end

--- Model → facts, of several; those that are not kept are asked for at the same time.
function models.all_facts(wanted)
  local threads, known = {}, {}
  for number, model in ipairs(wanted) do
    threads[number] = ngx.thread.spawn(models.facts, model)
  end
  for number, model in ipairs(wanted) do
    local _, facts = ngx.thread.wait(threads[number])
    known[model] = facts
  end
  return known
end

-- As vLLM lists them: an adapter's parent is the model that it adapts.
local function entry(name, model, facts)
  local adapter = model.adapts[name]
  return {
    id = name,
    object = "model",
    created = facts.created,
    owned_by = "vllmstack",
    root = adapter and name or model.name,
    parent = adapter and model.name or ngx.null,
    max_model_len = facts.max_model_len,
  }
end

--- GET /v1/models
function models.list()
  local policy = keys.policy("GET", "HEAD")
  local known = models.all_facts(deployment.models) -- one question a model, however many aliases it has
  local data = {}
  for number, name in ipairs(keys.names(policy)) do
    local model = deployment.behind(name)
    data[number] = entry(name, model, known[model])
  end
  json.answer(200, {object = "list", data = json.list(data)})
end

--- GET /v1/models/{id}; an id may contain slashes.
function models.show()
  local policy = keys.policy("GET", "HEAD")
  local name = ngx.var.uri:sub(#"/v1/models/" + 1)
  local model = deployment.behind(name)
  if not model or not keys.permits(policy, name) then -- what a key may not use does not exist for it
    return errors.unknown_model(name, keys.names(policy))
  end
  json.answer(200, entry(name, model, models.facts(model)))
end

return models
