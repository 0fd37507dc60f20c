-- The replicas that may get a request now, with what they have to do (dict `load`).
--
-- `a|REPLICA` is health.lua's: 0 for one that gets none, else since × 64 + slot, in seconds; since 1 once its slow start is
-- over. One that nobody has looked at yet is taken. `l|REPLICA` is load.lua's.

local load = require "gateway.load"

local dict = ngx.shared.load

-- States below it are of replicas whose slow start is over.
local WARM = 128

local candidates = {}

-- Share of its normal load for a replica that began to serve a moment ago: its caches and graphs are cold.
local function weight(state, slow_start_seconds)
  local age = ngx.now() - math.floor(state / 64)
  return age >= slow_start_seconds and 1 or math.max(0.1, age / slow_start_seconds)
end

--- {{number, name, bit, in_flight, pending, matched, weight}, …}; `number` is its place among the model's replicas.
function candidates.of(model)
  local found, count = {}, 0
  for number, name in ipairs(model.replicas) do
    local state = dict:get(model.states[number])
    if state ~= 0 then
      local in_flight, pending = load.parted(dict:get(model.loads[number]))
      count = count + 1
      found[count] = {
        number = number,
        name = name,
        bit = 2 ^ (state and state % 64 or number - 1),
        in_flight = in_flight,
        pending = pending,
        matched = 0,
        weight = (not state or state < WARM) and 1 or weight(state, model.slow_start_seconds),
      }
    end
  end
  return found
end

--- Requests in flight of all of them.
function candidates.in_flight(replicas)
  local sum = 0
  for i = 1, #replicas do
    sum = sum + replicas[i].in_flight
  end
  return sum
end

return candidates
