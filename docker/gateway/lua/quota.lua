-- What a key may use: requests and tokens in any minute, and requests at the same time.
--
-- A sliding window over two buckets: what this minute has, and the share of the last minute's that is less than 60 s
-- ago. A request is counted first and judged then, so that no two workers pass on the same last place; one that is
-- refused gives back what it took. Dict `quota`: `r|NAME|MINUTE` requests, `t|NAME|MINUTE` tokens.

local load = require "gateway.load"

local dict = ngx.shared.quota

-- A bucket counts in its own minute and the next.
local SECONDS = 180

local quota = {}

-- Whole seconds until `amount` more fits; nil: never. `elapsed` is the part of this minute that has passed.
local function wait_seconds(previous, current, amount, limit, elapsed)
  if amount > limit then
    return nil
  end
  -- What may be left of the bucket that is ageing; it has to shrink to `free ÷ bucket` of its size.
  local free = limit - amount - current
  local part = free >= 0 and 1 - free / previous - elapsed or 1 - elapsed + math.max(0, 1 - (limit - amount) / current)
  return math.max(1, math.ceil(60 * part - 1e-9)) -- a second is not lost to rounding
end

local function held(counter, minute)
  return dict:get(counter .. "|" .. minute) or 0
end

local function add(counter, minute, amount)
  return dict:incr(counter .. "|" .. minute, amount, 0, SECONDS)
end

-- Counts, and gives true; or where that is more than the limit counts nothing, and gives false and the seconds to wait.
local function count(counter, amount, limit, minute, elapsed)
  local current = add(counter, minute, amount) - amount
  local previous = held(counter, minute - 1)
  if current + amount + previous * (1 - elapsed) <= limit + 1e-9 then
    return true
  end
  add(counter, minute, -amount)
  return false, wait_seconds(previous, current, amount, limit, elapsed)
end

-- Takes a place among the requests at the same time; false if there is none.
local function enter(name, most)
  load.hold("c|" .. name, 1)
  if load.held("c|" .. name) <= most then
    return true
  end
  load.hold("c|" .. name, -1)
  return false
end

-- The minute since 1970, and the part of it that has passed.
local function clock(milliseconds)
  return math.floor(milliseconds / 60000), milliseconds % 60000 / 60000
end

--- Takes what a request may use: a receipt; or nothing, and {kind, retry_seconds, requested}.
-- `kind` is requests, tokens or concurrency; retry_seconds is nil where waiting does not help. The receipt goes to
-- settle() once the request has ended, whatever became of it; it is empty where nothing is limited.
function quota.take(policy, estimated_tokens, now_milliseconds)
  local requests, tokens, most = policy.requests_per_minute, policy.tokens_per_minute, policy.concurrency
  if not requests and not tokens and not most then
    return ""
  end
  local name = policy.name
  local minute, elapsed = clock(now_milliseconds)
  local amount = tokens and math.ceil(estimated_tokens) or 0
  if requests then
    local passes, wait = count("r|" .. name, 1, requests, minute, elapsed)
    if not passes then
      return nil, {kind = "requests", retry_seconds = wait, requested = 1}
    end
  end
  local passes, wait, kind = true, 1, "tokens"
  if tokens then
    passes, wait = count("t|" .. name, amount, tokens, minute, elapsed)
  end
  if passes and most and not enter(name, most) then
    passes, wait, kind = false, 1, "concurrency"
    if tokens then
      add("t|" .. name, minute, -amount)
    end
  end
  if passes then
    return table.concat({name, minute, requests and 1 or 0, tokens and amount or "", most and 1 or 0}, "|")
  end
  if requests then
    add("r|" .. name, minute, -1)
  end
  return nil, {kind = kind, retry_seconds = wait, requested = amount}
end

--- Once at the end of every request that has a receipt: `tokens` replace the estimate, "unknown" leaves it, and nil gives
-- everything back (no engine answered). What was taken is given back where it was taken; what was used beyond it was used
-- since, and counts now.
function quota.settle(receipt, tokens)
  if receipt == "" then
    return
  end
  local name, minute, requests, amount, most = receipt:match("^(.*)|(%d+)|(%d)|([%d.]*)|(%d)$")
  if most == "1" then
    load.hold("c|" .. name, -1)
  end
  if requests == "1" and not tokens then
    add("r|" .. name, minute, -1)
  end
  if amount ~= "" and tokens ~= "unknown" then
    local change = (tokens or 0) - tonumber(amount)
    if change ~= 0 then
      add("t|" .. name, change < 0 and minute or clock(ngx.now() * 1000), change)
    end
  end
end

-- `45s`, `1m30s`: as OpenAI writes durations.
local function duration(seconds)
  local whole = math.ceil(seconds)
  return whole < 60 and whole .. "s" or math.floor(whole / 60) .. "m" .. whole % 60 .. "s"
end

-- One counter's three headers; it is reset when nothing that counts now counts any more.
local function tell(what, counter, limit, minute, elapsed)
  local previous, current = held(counter, minute - 1), held(counter, minute)
  local minutes = current > 0 and 2 - elapsed or previous > 0 and 1 - elapsed or 0
  local left = math.max(0, math.floor(limit - current - previous * (1 - elapsed)))
  ngx.header["x-ratelimit-limit-" .. what] = limit
  ngx.header["x-ratelimit-remaining-" .. what] = left
  ngx.header["x-ratelimit-reset-" .. what] = duration(60 * minutes)
end

--- OpenAI's x-ratelimit-* headers, of what is limited.
function quota.headers(policy)
  local minute, elapsed = clock(ngx.now() * 1000)
  if policy.requests_per_minute then
    tell("requests", "r|" .. policy.name, policy.requests_per_minute, minute, elapsed)
  end
  if policy.tokens_per_minute then
    tell("tokens", "t|" .. policy.name, policy.tokens_per_minute, minute, elapsed)
  end
end

--- Why a request is refused, for a person.
function quota.reason(policy, refused)
  if refused.kind == "tokens" then
    local needs = ("The key `%s` has %d tokens a minute, and this request may take %d"):format(
      policy.name, policy.tokens_per_minute, refused.requested)
    if not refused.retry_seconds then
      return needs .. ": shorten the prompt, or ask for a shorter answer (`max_tokens`)."
    end
    return ("%s. Try again in %d s."):format(needs, refused.retry_seconds)
  end
  local limit = refused.kind == "requests" and policy.requests_per_minute .. " requests a minute"
    or policy.concurrency .. " requests at the same time"
  return ("The key `%s` has %s. Try again in %d s."):format(policy.name, limit, refused.retry_seconds)
end

return quota
