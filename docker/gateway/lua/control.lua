-- What `gateway-control` asks for, inside this container: the replicas' states, and to leave one out or take it back.

local deployment = require "gateway.deployment"
local health = require "gateway.health"
local json = require "gateway.json"
local load = require "gateway.load"

local states = ngx.shared.states

local control = {}

local function described(model, replica)
  local now = health.of(replica)
  local in_flight, pending = load.of(replica)
  return {
    replica = replica,
    model = model.name,
    state = now.state,
    detail = now.detail,
    in_flight = in_flight,
    pending_tokens = pending,
    since = now.since,
  }
end

-- Every replica, in the deployment's order; and by its name.
local function all()
  local found, by_name = {}, {}
  deployment.each_replica(function(model, replica)
    by_name[replica] = described(model, replica)
    found[#found + 1] = by_name[replica]
  end)
  return found, by_name
end

local DONE = {
  --- No request that is chosen from now on goes there, in any worker; health.lua keeps it so.
  drain = function(replica)
    states:delete("resume|" .. replica)
    states:add("drain|" .. replica, ngx.now())
    ngx.shared.load:set("a|" .. replica, 0)
  end,
  --- health.lua puts it back within a second or two, after a token.
  resume = function(replica)
    if states:get("drain|" .. replica) then
      states:set("resume|" .. replica, true)
    end
  end,
}

--- GET /-/replicas, POST /-/replicas/NAME/drain, POST /-/replicas/NAME/resume
function control.answer()
  local uri, method = ngx.var.uri, ngx.req.get_method()
  local known, by_name = all()
  if uri == "/-/replicas" and method == "GET" then
    return json.answer(200, {replicas = json.list(known)})
  end
  local name, verb = uri:match("^/%-/replicas/([^/]+)/(%a+)$")
  if not DONE[verb] or method ~= "POST" then
    local there = "there are: GET /-/replicas, POST /-/replicas/NAME/drain, POST /-/replicas/NAME/resume"
    return json.answer(404, {error = there})
  elseif not by_name[name] then
    local names = {}
    for i, one in ipairs(known) do
      names[i] = one.replica
    end
    return json.answer(404, {error = "there is no replica " .. name .. "; there are: " .. table.concat(names, ", ")})
  end
  DONE[verb](name)
  local _, now = all()
  json.answer(200, now[name])
end

return control
