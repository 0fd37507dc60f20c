-- Which replicas get requests: a state for each, judged every second by one worker, told by /ready and gateway-control.
--
--   unknown ──200──▶ serving ──▶ dead | hung ──200──▶ starting ──one token──▶ serving
--
-- unknown    not looked at since this gateway started: it gets requests, and is trusted at its first 200
-- serving    gets requests
-- starting   answers /health, or never has: gets requests again once it has really answered one
-- dead       refuses connections, fails /health, has no container (twice in a row), or is silent for 3.5 s
-- hung       has requests, makes no step for hung_seconds and does not answer one of this gateway's own either
-- draining   told so by gateway-control; lies over the others until it is resumed
--
-- Dict `states`: `state|REPLICA` = JSON {state, since, start, why}, written here only; `drain|REPLICA` and `resume|REPLICA`,
-- marks of control.lua. Dict `load`: `a|REPLICA`, what candidates.lua reads. Times are seconds of the clock.

local cjson = require "cjson"

local counters = require "gateway.counters"
local deployment = require "gateway.deployment"
local json = require "gateway.json"
local probes = require "gateway.probes"
local progress = require "gateway.progress"
local slots = require "gateway.slots"

local SILENT_SECONDS = 3.5
-- Less than from one look to the next.
local FRESH_SECONDS = 0.5
local UNNAMED_SECONDS = 0.8
-- In `a|REPLICA`: its slow start is over, and candidates.lua need not look at the clock.
local LONG_AGO_SECONDS = 1
-- How long a fresh look at /metrics is waited for before a replica that came back is taken for a new one.
local LOOK_SECONDS = 5

local states, load = ngx.shared.states, ngx.shared.load

local health = {}

local function read(replica)
  local text = states:get("state|" .. replica)
  return text and cjson.decode(text) or {state = "unknown", since = 0}
end

local function draining(replica)
  return states:get("drain|" .. replica) ~= nil
end

-- Who asks twice finds the mark of a drain that came in between: control.lua sets it before it writes 0 itself.
local function offer(replica, since_seconds, slot)
  load:set("a|" .. replica, draining(replica) and 0 or since_seconds * 64 + slot)
  if draining(replica) then
    load:set("a|" .. replica, 0)
  end
end

local function change(model, replica, from, to, why)
  local now = {state = to, since = ngx.now(), start = from.start, why = why}
  states:set("state|" .. replica, cjson.encode(now))
  ngx.log(ngx.WARN, "replica ", replica, " of ", model.name, ": ", from.state, ", now ", to, ": ", why)
end

-- Takes a replica out; `reason` is one of a few words, for the counter.
local function eject(model, replica, from, to, reason, why)
  load:set("a|" .. replica, 0)
  if from.state == "serving" and not draining(replica) then
    counters.add("ejections_total|" .. model.name .. "|" .. replica .. "|" .. reason, 1)
  end
  change(model, replica, from, to, why)
end

-- Puts a replica in. Its cache is as it was only if its process is.
local function admit(model, replica, from, start, why)
  local same = start and start == from.start
  local slot = slots.current(replica)
  if not slot then
    slot = slots.first(model, replica)
  elseif not same then
    slot = slots.renew(model, replica)
  end
  change(model, replica, {state = from.state, start = start}, "serving", why)
  -- Who was serving before this gateway started needs no slow start.
  offer(replica, from.state == "unknown" and LONG_AGO_SECONDS or math.floor(ngx.now()), slot)
end

-- Of a replica that serves and answers: takes it back when it was doubted, if it has answered just now (while a look waits,
-- the one before it counts); and says once that its slow start is over.
local function warm(model, replica, now)
  local offered = load:get("a|" .. replica) or 0
  local _, ago_seconds = probes.health(replica)
  if offered == 0 and ago_seconds < FRESH_SECONDS then
    offer(replica, math.floor(now.since), slots.current(replica))
  elseif offered >= 64 * (LONG_AGO_SECONDS + 1) and ngx.now() - now.since > model.slow_start_seconds then
    offer(replica, LONG_AGO_SECONDS, offered % 64)
  end
end

-- Why the last /health makes the replica dead, as a reason and words, or nil.
local function death(replica, last)
  if last == "refused" then
    return "refused", "it refuses connections"
  elseif last:find("^HTTP") and last ~= "HTTP 200" then
    return "status", "its /health says " .. last
  end
  local quiet = probes.quiet_seconds(replica)
  if last == "unnamed" and quiet > UNNAMED_SECONDS then
    return "unnamed", "its container is gone"
  elseif quiet >= SILENT_SECONDS then
    return last, ("no answer for %.1f s (%s)"):format(quiet, last)
  end
end

-- Of a replica that serves: whether it is another process than before, or gets on with nothing.
local function watch(model, replica, now)
  local seen = progress.of(replica)
  if not seen then
    return
  elseif now.start and seen.start ~= now.start then
    return eject(model, replica, now, "starting", "restarted", "its engine was started again")
  elseif not now.start then
    now.start = seen.start
    states:set("state|" .. replica, cjson.encode(now))
  end
  local still = seen.busy and ngx.now() - math.max(seen.moved, probes.token_at(replica)) or 0
  -- A gauge that stands, or a client that does not read, is no proof: the replica is asked for a token first.
  local limit = model.hung_seconds
  local proof = probes.asked_seconds(replica) >= math.min(limit / 4, 5) or still >= 1.5 * limit
  if still >= limit and proof then
    eject(model, replica, now, "hung", "hung", ("it has requests and makes no step for %.1f s"):format(still))
  elseif still >= limit / 2 then
    probes.ask_token(model, replica)
  end
end

-- Of a replica that answers /health and is out: a token, and what process it is.
local function try_out(model, replica, now)
  if probes.token_at(replica) <= now.since then
    return probes.ask_token(model, replica)
  end
  local seen = progress.of(replica)
  local looked = seen and seen.read > now.since
  if looked or ngx.now() - now.since > LOOK_SECONDS then
    admit(model, replica, now, looked and seen.start or nil, "it answered with a token")
  end
end

-- What a replica's last answer makes of its state, by the state that it has.
local JUDGED = {
  unknown = function(model, replica, now, answers, reason, why)
    if answers then
      local seen = progress.of(replica)
      admit(model, replica, now, seen and seen.start, "it answers")
    elseif reason then
      eject(model, replica, now, "starting", reason, why)
    end
  end,
  serving = function(model, replica, now, answers, reason, why)
    if reason then
      eject(model, replica, now, "dead", reason, why)
    elseif answers then
      warm(model, replica, now)
      watch(model, replica, now)
    end
  end,
  hung = function(model, replica, now, answers, reason, why)
    if reason then
      eject(model, replica, now, "dead", reason, why)
    elseif answers then
      try_out(model, replica, now)
    end
  end,
  dead = function(model, replica, now, answers, reason)
    if answers and not reason then
      change(model, replica, now, "starting", "it answers again")
      try_out(model, replica, read(replica))
    end
  end,
  starting = function(model, replica, now, answers, reason)
    if answers and not reason then
      try_out(model, replica, now)
    end
  end,
}

-- One replica's next state.
local function judge(model, replica)
  local now = read(replica)
  if states:get("resume|" .. replica) then
    states:delete("resume|" .. replica)
    states:delete("drain|" .. replica)
    if now.state == "serving" then
      change(model, replica, now, "starting", "it was resumed")
      now = read(replica)
    end
  end
  local last = probes.health(replica)
  if last then
    JUDGED[now.state](model, replica, now, last == "HTTP 200", death(replica, last))
  end
end

--- Replicas that a request could not connect to get no others before the next look at them, which says why or takes them back.
function health.doubt(replicas)
  for _, replica in ipairs(replicas) do
    load:set("a|" .. replica, 0)
  end
end

--- Each second, by one worker: every replica is asked, and judged when it has answered or has still to answer the last time.
function health.probe()
  deployment.each_replica(function(model, replica)
    probes.ask_health(replica, function()
      judge(model, replica)
    end)
  end)
end

--- {state, detail, since}: what an operator sees of a replica; `since` is unix seconds, 0 for one not looked at yet.
function health.of(replica)
  local now = read(replica)
  local said = ngx.shared.replicas:get("state " .. replica) or "not asked yet"
  local drained = states:get("drain|" .. replica)
  if drained and states:get("resume|" .. replica) then
    return {state = "starting", detail = "it was resumed", since = math.floor(ngx.now())}
  elseif drained then
    return {state = "draining", detail = said .. "; " .. now.state, since = math.floor(drained)}
  end
  local told = now.state == "hung" or (now.state == "starting" and said == "HTTP 200")
  return {state = now.state, detail = told and now.why or said, since = math.floor(now.since)}
end

--- One model's replicas: which get requests, and what they said.
function health.status(model)
  local replicas, ready = {}, false
  for number, replica in ipairs(model.replicas) do
    local seen = health.of(replica)
    replicas[number] = {replica = replica, answers = seen.state == "serving", detail = seen.detail}
    ready = ready or seen.state == "serving"
  end
  return {model = model.name, ready = ready, replicas = json.list(replicas)}
end

--- GET /ready: 200 when every model has a replica that gets requests, else 503; the body says which do not.
function health.report()
  local models, ready = {}, true
  for number, model in ipairs(deployment.models) do
    models[number] = health.status(model)
    ready = ready and models[number].ready
  end
  json.answer(ready and 200 or 503, {ready = ready, models = json.list(models)})
end

return health
