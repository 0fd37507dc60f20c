-- Which replica gets a request. Pure: the simulator runs this file too (vllmstack/simulation/deployed.py).
--
-- A replica is {number, in_flight, pending, matched, weight}: its place in the deployment, requests in flight, prompt tokens
-- of theirs that have not brought a first byte yet, tokens of this request's prompt that it has most likely in its prefix
-- cache, and the share of its normal load that it may take (1, or less while it starts slowly). A request is {tokens, session,
-- affinity, turn}: session and affinity are whole numbers of 32 bits that stand for a text (prefix.lua), or nil; turn is the
-- model's own counter of requests.
--
-- Every request comes by here: plain loops over numbers, which LuaJIT makes machine code of.

local bit = require "bit"

local choice = {}

-- The low 32 bits of a product, signed: a double keeps 53.
local function multiply(a, b)
  local low = a % 65536
  local high = (a - low) / 65536 % 65536
  return bit.tobit(low * b % 4294967296 + bit.lshift(bit.tobit(high * (b % 65536)), 16))
end

-- Rendezvous: a replica's place in a key's own order; adding or removing one changes no other's.
local function rank(key, replica)
  local value = multiply(bit.bxor(key, multiply(replica.number, 2654435761)), 2246822507)
  value = multiply(bit.bxor(value, bit.rshift(value, 13)), 3266489909)
  return bit.bxor(value, bit.rshift(value, 16)) % 4294967296
end

-- Each replica's share of all requests in flight, this one included, and a quarter more.
local function bounds(replicas)
  local in_flight, weights = 1, 0
  for i = 1, #replicas do
    in_flight = in_flight + replicas[i].in_flight
    weights = weights + replicas[i].weight
  end
  return 1.25 * in_flight / weights
end

-- How far a replica is from the one whose turn it is.
local function distance(turn, replica, count)
  return (replica.number - turn) % count
end

-- The index of the lowest score below infinity. Of equals the first in the key's order, so that a restart changes nothing;
-- but each in turn where they all have the prefix: a hot one belongs to nobody.
local function least(replicas, scores, request)
  local best, ties = 1, false
  for i = 2, #scores do
    if scores[i] < scores[best] then
      best, ties = i, false
    elseif scores[i] == scores[best] then
      ties = true
    end
  end
  if not ties then
    return best
  end
  local lowest = scores[best]
  local key = replicas[best].matched == 0 and request.affinity
  local first = math.huge
  for i = 1, #scores do
    if scores[i] == lowest then
      local place = key and -rank(key, replicas[i]) or distance(request.turn, replicas[i], #replicas)
      if place < first then
        first, best = place, i
      end
    end
  end
  return best
end

-- LMetric (arXiv 2603.15202): the tokens to prefill before a first token, times the requests to share the steps with. New
-- tokens count twice: a second copy of a prefix also takes the place of what others use. Eight requests above the bound are
-- allowed: with a few in flight the bound alone would scatter conversations (docs/concepts/routing.md has the figures of
-- both).
local function lmetric(replicas, request)
  local most = bounds(replicas) + 8
  local scores = {}
  for i = 1, #replicas do
    local replica = replicas[i]
    local weight = replica.weight
    local shared = replica.in_flight + 1
    if shared >= most * weight + 1 then
      scores[i] = math.huge
    else
      scores[i] = (replica.pending + 2 * (request.tokens - replica.matched) + 16) * shared / weight
    end
  end
  local index = least(replicas, scores, request)
  return index, replicas[index].matched > 0 and "prefix" or "load"
end

local function least_requests(replicas, request)
  local scores = {}
  for i = 1, #replicas do
    scores[i] = (replicas[i].in_flight + 1) / replicas[i].weight
  end
  return least(replicas, scores, request), "load"
end

-- Rendezvous hashing with bounded loads: each session has an order of replicas, and takes the first below the bound.
local function session(replicas, request)
  if not request.session then
    return least_requests(replicas, request)
  end
  local bound = bounds(replicas)
  local order, bounded = {}, {}
  for i = 1, #replicas do
    order[i] = -rank(request.session, replicas[i])
    bounded[i] = replicas[i].in_flight + 1 <= math.ceil(bound * replicas[i].weight) and order[i] or math.huge
  end
  local first = least(replicas, order, request)
  local index = least(replicas, bounded, request)
  return index, index == first and "session" or "bound"
end

local function round_robin(replicas, request)
  return request.turn % #replicas + 1, "turn"
end

--- choose(policy, replicas, request) → index, reason. There is at least one replica, of a weight above 0.
function choice.choose(policy, replicas, request)
  if #replicas == 1 then
    return 1, "only"
  elseif policy == "lmetric" then
    return lmetric(replicas, request)
  elseif policy == "session" then
    return session(replicas, request)
  elseif policy == "round-robin" then
    return round_robin(replicas, request)
  end
  return least_requests(replicas, request)
end

return choice
