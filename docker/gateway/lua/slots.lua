-- Which bit of the prefix masks means a replica (dict `states`). Who comes back with an empty cache gets another bit than the
-- one that prefixes were noted under: no entry says any more that it had them.

local cjson = require "cjson"

-- A number's 53 bits, one left over.
local SLOTS = 52

local states = ngx.shared.states

local slots = {}

local function in_use(model, replica)
  local used = {}
  for _, other in ipairs(model.replicas) do
    local slot = states:get("slot|" .. other)
    if other ~= replica and slot then
      used[slot] = true
    end
  end
  return used
end

--- The slot that a replica has, or nil.
function slots.current(replica)
  return states:get("slot|" .. replica)
end

--- What stands for a replica in the masks: 2^slot, or of its place in the pool before anybody has looked.
function slots.bit(model, replica)
  local slot = slots.current(replica)
  for number, other in ipairs(model.replicas) do
    slot = slot or (other == replica and number - 1)
  end
  return 2 ^ slot
end

local function keep(replica, slot)
  states:set("slot|" .. replica, slot)
  return slot
end

--- Gives up a replica's slot, if it has one, for the free one whose last owner gave it up longest ago.
function slots.renew(model, replica)
  local given = cjson.decode(states:get("retired|" .. model.pool) or "{}") -- slot, as text → when
  local used = in_use(model, replica)
  local old = slots.current(replica)
  local best
  for slot = 0, SLOTS - 1 do
    local free = not used[slot] and slot ~= old
    if free and (not best or (given[tostring(slot)] or 0) < (given[tostring(best)] or 0)) then
      best = slot
    end
  end
  if old then
    given[tostring(old)] = ngx.now()
    states:set("retired|" .. model.pool, cjson.encode(given))
  end
  return keep(replica, best or old)
end

--- The first slot of a replica: its place in the pool, which is also what stands for it before anybody has looked.
function slots.first(model, replica)
  for number, other in ipairs(model.replicas) do
    if other == replica and not in_use(model, replica)[number - 1] then
      return keep(replica, number - 1)
    end
  end
  return slots.renew(model, replica)
end

return slots
