-- From a request to a replica: who asks, which model, may it, is there room, and who has most of the prompt already.

local admission = require "gateway.admission"
local affinity = require "gateway.affinity"
local bodies = require "gateway.bodies"
local choice = require "gateway.choice"
local counters = require "gateway.counters"
local deployment = require "gateway.deployment"
local errors = require "gateway.errors"
local keys = require "gateway.keys"
local load = require "gateway.load"
local prefix = require "gateway.prefix"
local spending = require "gateway.spending"

-- Less is the gateway's own: most requests have waited for nothing.
local WAITED_SECONDS = 0.01

local routing = {}

--- The body as an object, and its text; sends the error itself.
function routing.read()
  local ok, text = pcall(bodies.text)
  if not ok then
    ngx.log(ngx.INFO, "a body that cannot be read: ", text)
    return errors.fail(411, "length_required") -- HTTP/2 without a content-length
  end
  local body, code, message = bodies.parse(text)
  if not body then
    return errors.fail(400, code, message)
  end
  return body, text
end

-- What the session policy goes by.
local function session_key(body)
  local key = ngx.var.http_x_session_id
  if not key or key == "" then
    key = body.prompt_cache_key
  end
  if type(key) ~= "string" or key == "" then
    key = body.user
  end
  return type(key) == "string" and key ~= "" and prefix.digest(0, key) or nil
end

-- A split's model by its weights; also starts the mirror's share.
local function drawn(split)
  local point = math.random()
  local model
  for _, weight in ipairs(split.weights) do
    model = weight[1]
    point = point - weight[2]
    if point < 0 then
      break
    end
  end
  local mirror = split.mirror
  if mirror and mirror.model ~= model and math.random() < mirror.ratio then
    counters.add("mirrored_total|" .. mirror.model.name, 1)
    ngx.var.mirror_pool = mirror.model.pool
  end
  return model
end

-- Takes back what a request still has of the replica that it was given to, which did not take it.
local function release(model, chain)
  local var = ngx.var
  if var.charge ~= "" then
    local chosen, tokens = load.charged(var.charge)
    load.work(chosen, -1, -tokens)
    affinity.forget(model, chain, chosen, tokens)
    var.charge = ""
  end
end

--- The model that a name stands for now, or stood for when the request was first sent; sends the error itself.
function routing.model_for(policy, name)
  if ngx.var.model ~= "" then
    return deployment.find(ngx.var.model)
  end
  local split = deployment.split(name)
  local only = not split and deployment.find(name)
  if not split and not only then
    return errors.unknown_model(name, keys.names(policy))
  end
  if not keys.permits(policy, name) then
    local message = ("This API key may not use the model `%s`."):format(name)
    return errors.fail(403, "model_not_permitted", message, {type = "permission_error", param = "model"})
  end
  if only then
    return only
  end
  local model = drawn(split)
  counters.add("split_requests_total|" .. name .. "|" .. model.name, 1)
  return model
end

-- Chooses the replica, and notes what it is charged with: `REPLICA TOKENS`, released by answers.lua. Returns the reason. What
-- is sent `again` has been counted.
local function send(model, body, replicas, chain, again)
  local masks = affinity.match(chain, replicas)
  local index, reason = choice.choose(model.policy, replicas, {
    tokens = chain.total,
    session = model.policy == "session" and session_key(body) or nil,
    turn = ngx.shared.load:incr(model.turns, 1, 0),
    affinity = chain.hashes[1], -- what is too short to have a prefix goes anywhere
  })
  local replica = replicas[index]
  local tokens = chain.total - replica.matched
  affinity.remember(chain, masks, replica)
  ngx.ctx.chain = chain -- until an answer begins: another replica may take it
  load.work(replica.name, 1, tokens)
  local var = ngx.var
  var.charge = replica.name .. " " .. tokens
  var.peer = model.routes[replica.number]
  local waited = ngx.now() - ngx.req.start_time()
  if waited >= WAITED_SECONDS then
    var.waited = waited
  end
  if again then
    return reason
  end
  counters.add(model.routed, chain.total)
  if replica.matched > 0 then
    counters.add(model.matched, replica.matched)
  end
  return reason
end

--- Quota, queue and choice of a request whose model is known. One that errors.lua sends again has paid and been mirrored.
function routing.dispatch(policy, model, body)
  local var = ngx.var
  local again = var.repeats ~= "0"
  local chain = prefix.boundaries(body, model.seeds[body.model] or model.seed)
  if again then
    release(model, chain)
    var.mirror_pool = ""
  elseif deployment.api_keys then
    spending.begin(policy, body, chain.total)
  end
  var.model = model.name
  var.pool = model.pool
  local admit = again and admission.readmit or admission.admit
  local replicas, refusal, retry_seconds = admit(model, policy.priority)
  if refusal == "no_replica" then
    return errors.fail(503, "no_replica_available", nil, {retry_seconds = retry_seconds})
  elseif refusal then
    local message = ("The model has as many requests as it can take. Try again in %d s."):format(retry_seconds)
    return errors.fail(429, "model_overloaded", message, {retry_seconds = retry_seconds})
  end
  local ok, reason = pcall(send, model, body, replicas, chain, again)
  if not ok then
    ngx.log(ngx.ERR, "routing: ", reason) -- nginx's least_conn takes over: $peer is empty
    reason = "fallback"
  end
  -- For a key that may, or where no keys are asked for.
  if policy.debug and var.http_x_vllmstack_debug then
    var.route_reason = reason
  end
end

local function choose()
  local policy = keys.policy("POST")
  local body = routing.read()
  if type(body.model) ~= "string" then
    return errors.fail(400, "missing_model", "The request needs a `model` that is text.", {param = "model"})
  end
  routing.dispatch(policy, routing.model_for(policy, body.model), body)
end

--- access_by_lua of every path that an engine serves.
function routing.choose()
  local ok, problem = pcall(choose)
  if not ok then
    ngx.log(ngx.ERR, "routing: ", problem)
    if ngx.var.pool == "" then -- else nginx's least_conn takes over
      return errors.fail(500, "internal_error")
    end
  end
end

return routing
