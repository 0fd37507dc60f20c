-- A bounded queue before each model: beyond `max_in_flight` requests wait, in the order they came and interactive before
-- batch, for at most `max_queue_seconds`; who would wait longer is told at once when to come again. While no replica can
-- take a request (a restart of the only one) they are held for `hold_seconds`, and for `max_queue_seconds` more because they
-- then all want their turn; so is one that was given to a replica which then took no connection. That time is a request's
-- only one: it runs on while the request is sent and comes back.
--
-- Tickets in dict `load`: `n|MODEL|CLASS` were given, `d|MODEL|CLASS` of them have left, `w|MODEL|CLASS` wait, `w|MODEL` of
-- both classes. A ticket may go when fewer stand before it than there is room. One that left from the middle lets a later
-- one go a little early; the oldest is never behind its turn. A client that leaves is noticed when its turn has come: nginx
-- looks at its connection then, before an engine has done anything.

local candidates = require "gateway.candidates"
local counters = require "gateway.counters"
local load = require "gateway.load"

local dict = ngx.shared.load

local admission = {}

-- Requests that wait for a first replica: a bound on memory.
local function most_held(model)
  return math.max(1024, 4 * model.max_in_flight)
end

-- How many wait before a new request of a class.
local function ahead_of(model, rank)
  local interactive = load.held(model.waiting_of.interactive)
  return rank == "batch" and interactive + load.held(model.waiting_of.batch) or interactive
end

-- Seconds until a new request of a class would be begun; a mean request is what repair.lua keeps, and a guess before the
-- first.
local function queue_seconds(model, rank)
  return (ahead_of(model, rank) + 1) * (dict:get(model.service) or 1) / model.max_in_flight
end

local function refused(model, reason, rank)
  counters.add("sheds_total|" .. model.name .. "|" .. reason, 1)
  if reason == "no_replica" then
    return nil, reason, 5
  end
  return nil, reason, math.min(60, math.max(1, math.ceil(queue_seconds(model, rank))))
end

-- How many requests must end before this ticket's turn; infinity while no replica can take any.
local function before(model, rank, ticket)
  local takes, room = false, model.max_in_flight
  for number = 1, #model.replicas do
    if dict:get(model.states[number]) ~= 0 then
      takes = true
      room = room - load.parted(dict:get(model.loads[number]))
    end
  end
  if not takes then
    return math.huge
  end
  return math.max(0, ticket - load.held("d|" .. model.name .. "|" .. rank) - room + 1)
end

-- Every eighth turn is batch's, so that it does not starve.
local function may_go(model, rank)
  local other = model.waiting_of[rank == "batch" and "interactive" or "batch"]
  local batch_turn = load.held("q|" .. model.name) % 8 == 7
  return load.held(other) == 0 or batch_turn == (rank == "batch")
end

-- Seconds until it is worth looking again: soon for the next ones, a part of what those before it take for others.
local function pause(model, turns)
  local expected = turns * (dict:get(model.service) or 1) / model.max_in_flight
  return (turns <= 2 and 0.01 or math.min(0.15, math.max(0.01, expected / 16))) * (1 + math.random())
end

-- When a request that is held gives up: counted from the first time.
local function hold_ends(model)
  local var = ngx.var
  if var.hold_ends == "" then
    var.hold_ends = ngx.now() + model.hold_seconds + model.max_queue_seconds
  end
  return tonumber(var.hold_ends)
end

-- Waits for a turn; what it gives is what admit() gives. `held`: no replica can take it, which may also begin while it waits.
local function queue(model, rank, held)
  local begun = ngx.now()
  local ends = held and hold_ends(model) or begun + 2 * model.max_queue_seconds
  local ticket = dict:incr("n|" .. model.name .. "|" .. rank, 1, 0) - 1
  load.hold(model.waiting_of[rank], 1)
  load.hold(model.waiting, 1)
  local turns, turn = held and math.huge or 1, false
  repeat
    ngx.sleep(pause(model, turns))
    turns = before(model, rank, ticket)
    turn = turns == 0 and may_go(model, rank)
    if turns == math.huge and not held then
      held, ends = true, hold_ends(model)
    end
  until turn or ngx.now() >= ends
  load.hold(model.waiting_of[rank], -1)
  load.hold(model.waiting, -1)
  dict:incr("d|" .. model.name .. "|" .. rank, 1, 0)
  local replicas = candidates.of(model)
  if not turn or #replicas == 0 then
    return refused(model, #replicas == 0 and "no_replica" or "queue_timeout", rank)
  end
  dict:incr("q|" .. model.name, 1, 0)
  counters.observe("queue_seconds", model.name, ngx.now() - begun)
  return replicas
end

--- The replicas that may take the request, now or after it has waited; or nil, the reason (`full`, `queue_timeout` or
-- `no_replica`) and the seconds after which to ask again.
function admission.admit(model, rank)
  local replicas = candidates.of(model)
  local all = dict:get(model.waiting) or 0
  if #replicas == 0 then
    if all < most_held(model) then
      return queue(model, rank, true)
    end
    return refused(model, "no_replica", rank)
  elseif all == 0 and candidates.in_flight(replicas) < model.max_in_flight then
    return replicas
  end
  if queue_seconds(model, rank) <= model.max_queue_seconds then
    return queue(model, rank, false)
  end
  return refused(model, "full", rank)
end

--- As admit(), for a request that it has let through, but that reached no replica: where there is another, it does not queue
-- once more.
function admission.readmit(model, rank)
  local replicas = candidates.of(model)
  if #replicas > 0 then
    return replicas
  end
  return admission.admit(model, rank)
end

return admission
