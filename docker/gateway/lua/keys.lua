-- API keys: who is asking, and what that key may. No key is compared with another: it is looked up by its digest. Where a
-- deployment has none, anybody may use every model, and nothing is limited or counted by key.

local cjson = require "cjson"
local sha256 = require "nginx.sha256"
local to_hex = require("nginx.string").to_hex

local deployment = require "gateway.deployment"
local errors = require "gateway.errors"

local ANYBODY = {name = "", priority = "interactive", debug = true}

local keys = {}

--- SHA-256 of a text, hexadecimal.
function keys.digest(text)
  local hash = sha256:new()
  hash:update(text)
  return to_hex(hash:final())
end

-- The policy behind the Authorization header, or nil.
local function known()
  local header = ngx.var.http_authorization
  if not header or header:sub(1, 7):lower() ~= "bearer " then
    return nil
  end
  local key = header:sub(8):match("^%s*(.-)%s*$")
  local found = ngx.shared.api_keys:get(keys.digest(key))
  return found and cjson.decode(found)
end

--- rewrite_by_lua, before nginx's own limits: the name behind the request's key is what they count by.
function keys.name()
  local policy = known()
  ngx.ctx.policy = policy
  if policy then
    ngx.var.key_name = policy.name
  end
end

--- Who asks, by a method that the path answers to: {name, models, requests_per_minute, tokens_per_minute, concurrency,
-- priority, debug}, limits and models nil where there are none. Sends the error itself.
function keys.policy(allowed, allowed_too)
  local policy = not deployment.api_keys and ANYBODY or ngx.ctx.policy
  if not policy then -- does not repeat any part of what was sent
    local message = ngx.var.http_authorization and "The API key is not known here."
      or "No API key was given. Send it as `Authorization: Bearer KEY`."
    return errors.fail(401, "invalid_api_key", message, {headers = {["WWW-Authenticate"] = "Bearer"}})
  end
  local method = ngx.req.get_method()
  if method ~= allowed and method ~= allowed_too then
    return errors.wrong_method(allowed)
  end
  return policy
end

local function listed(models, name)
  for i = 1, #models do
    if models[i] == name then
      return true
    end
  end
  return false
end

--- Whether a key may use a name: by itself, by the model that it stands for, or by all models of a split.
function keys.permits(policy, name)
  local models = policy.models
  if not models or listed(models, name) then
    return true
  end
  local split = deployment.split(name)
  if not split then
    local model = deployment.find(name)
    return model ~= nil and listed(models, model.name)
  end
  for _, weight in ipairs(split.weights) do
    if not listed(models, weight[1].name) then
      return false
    end
  end
  return true
end

--- The names that a key may use, in the deployment's order.
function keys.names(policy)
  local found = {}
  for _, name in ipairs(deployment.names()) do
    if keys.permits(policy, name) then
      found[#found + 1] = name
    end
  end
  return found
end

return keys
