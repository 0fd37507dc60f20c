-- Which replica has most likely which prefix in its cache: hash of a prefix → bit mask of replicas (dict `prefixes`).
--
-- A replica's bit is its slot, which changes when it restarts with an empty cache (health.lua). Masks are doubles, whole up
-- to 2^53: bit operations would end at 31. Two workers that write one mask at a time lose one of the bits: a hint less.

local slots = require "gateway.slots"

local dict = ngx.shared.prefixes

-- An engine's own cache forgets sooner.
local SECONDS = 1800

local affinity = {}

-- Whether a mask has a slot's bit; `bit` is 2^slot.
local function has(mask, bit)
  return mask % (2 * bit) >= bit
end

--- Sets `matched` of each replica: the tokens of the longest prefix that it was given before.
-- Returns the masks that were found, for remember().
function affinity.match(chain, replicas)
  local masks = {}
  for i = 1, #chain.hashes do
    local mask = dict:get(chain.hashes[i])
    if not mask then
      break
    end
    masks[i] = mask
    for k = 1, #replicas do
      if has(mask, replicas[k].bit) then
        replicas[k].matched = chain.tokens[i]
      end
    end
  end
  return masks
end

--- The replica has all of the chain from now on: before it has begun, so that requests that come together go together.
function affinity.remember(chain, masks, replica)
  for i = 1, #chain.hashes do
    local mask = masks[i] or 0
    if not has(mask, replica.bit) then
      dict:set(chain.hashes[i], mask + replica.bit, SECONDS)
    end
  end
end

--- A request was charged to a replica with `tokens`, which did not take it: of the chain the replica has only what it was given
-- before.
function affinity.forget(model, chain, name, tokens)
  local bit = slots.bit(model, name)
  for i = 1, #chain.hashes do
    local mask = chain.tokens[i] > chain.total - tokens and dict:get(chain.hashes[i])
    if mask and has(mask, bit) then
      dict:set(chain.hashes[i], mask - bit, SECONDS)
    end
  end
end

--- The same, and another replica took it.
function affinity.move(model, chain, name, tokens, taker)
  affinity.forget(model, chain, name, tokens)
  affinity.remember(chain, affinity.match(chain, {}), {bit = slots.bit(model, taker)})
end

return affinity
