-- What comes back: headers for who asked for them, the first byte, the tokens that an answer took, and its end.

local affinity = require "gateway.affinity"
local counters = require "gateway.counters"
local deployment = require "gateway.deployment"
local load = require "gateway.load"
local replicas = require "gateway.replicas"
local spending = require "gateway.spending"
local usage = require "gateway.usage"

local answers = {}

local function seconds()
  return ngx.now() - ngx.req.start_time()
end

--- header_filter_by_lua: who answered and why it was asked, for those alone that asked by X-Vllmstack-Debug and may know.
function answers.explain()
  local var = ngx.var
  if var.route_reason ~= "" then
    local tried = replicas.tried(var.upstream_addr)
    ngx.header["X-Vllmstack-Replica"] = tried[#tried] or "none"
    ngx.header["X-Vllmstack-Route-Reason"] = var.route_reason
  end
end

-- A request was given to `chosen`, and nginx found that another one took it.
local function move(ctx, chosen, tokens, served)
  load.work(chosen, -1, -tokens)
  load.work(served, 1, 0)
  local model = deployment.find(ngx.var.model)
  for _, replica in ipairs(model.replicas) do
    if replica == served then -- and not one that nobody knows by its address
      affinity.move(model, ctx.chain, chosen, tokens, served)
    end
  end
end

-- The prompt is prefilled; a request that another replica took in the end is charged to that one.
local function begin(ctx)
  ctx.begun = true
  local var = ngx.var
  local charge = var.charge
  if charge == "" then
    return
  end
  local chosen, tokens = load.charged(charge)
  local addresses = var.upstream_addr
  local served = chosen
  if not replicas.one(addresses) then
    local tried = replicas.tried(addresses)
    served = tried[#tried] or chosen
  end
  if served == chosen then
    load.work(served, 0, -tokens)
  else
    move(ctx, chosen, tokens, served)
  end
  ctx.chain = nil
  var.charge = served .. " 0"
  if ngx.status == 200 then
    counters.observe("first_byte_seconds", var.model, seconds())
  end
  if deployment.api_keys then
    ctx.usage = usage.begin()
  end
end

--- The first byte of an answer's body, once.
function answers.begin()
  local ctx = ngx.ctx
  if not ctx.begun and (ngx.arg[1] ~= "" or ngx.arg[2]) then
    begin(ctx)
  end
  return ctx
end

--- body_filter_by_lua of every answer of an engine.
function answers.pass()
  local ctx = answers.begin()
  if ctx.usage then
    usage.pass(ctx.usage)
  end
end

-- The time before a request was given to its replica is not the replica's, and one that got no answer after it tells nothing of
-- the replica: repair.lua leaves both out of the mean.
local function leave_out(model, waited, all)
  local answered = ngx.ctx.begun
  counters.add("unserved_seconds|" .. model, answered and waited or all)
  if not answered then
    counters.add("unserved|" .. model, 1)
  end
end

--- log_by_lua, when a request has ended in any way: counts it, and gives back what it held.
function answers.record()
  local var = ngx.var
  local model = var.model
  local charge = var.charge
  local addresses = var.upstream_addr
  local name = model == "" and "none" or model
  local last = "none"
  if charge ~= "" then
    local tokens
    last, tokens = load.charged(charge)
    load.work(last, -1, -tokens)
    local all = seconds()
    local waited = var.waited
    if waited ~= "" then
      leave_out(name, tonumber(waited), all)
    end
    counters.observe("request_duration_seconds", name, all)
  end
  if charge ~= "" and replicas.one(addresses) then
    var.tries = 1
  else
    local tried = replicas.tried(addresses)
    var.tries = #tried
    last = charge ~= "" and tried[#tried] or "none"
    for i = 1, #tried - 1 do -- each that was tried and failed
      counters.add("upstream_retries_total|" .. name .. "|" .. tried[i], 1)
    end
  end
  if charge ~= "" then
    var.replica = last
  end
  counters.add("requests_total|" .. name .. "|" .. last .. "|" .. var.key_name .. "|" .. var.status, 1)
  if deployment.api_keys then
    spending.settle(name)
  end
end

return answers
