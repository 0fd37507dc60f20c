-- What health.lua asks the replicas, and what they said (dict `states`). Each question is a timer of its own: a replica that
-- hangs delays no other.
--
-- `seen|REPLICA` = "SECONDS RESULT" of its last /health; `quiet|REPLICA` = when the first of those was sent that it left
-- unanswered; `token|REPLICA` = "SECONDS PATH RESULT" of the last token that it was asked for. Seconds of the clock.

local cjson = require "cjson"

local replies = require "gateway.replies"

local HEALTH_SECONDS = 2
local TOKEN_SECONDS = 30

local states = ngx.shared.states

local probes = {}

-- Replica → when a question began that it has not answered: of this worker, which is the one that asks.
local looking, asking = {}, {}

-- What became of a request to a replica: `HTTP nnn`, or why there is no answer.
local function outcome(status, why)
  return status and "HTTP " .. status or why
end

-- Calls `run` in a timer, with the time at which it began in `pending` for as long as it takes.
local function apart(pending, replica, run)
  pending[replica] = ngx.now()
  local started, problem = ngx.timer.at(0, function()
    local ok, failure = pcall(run)
    pending[replica] = nil
    if not ok then
      ngx.log(ngx.ERR, "probe of ", replica, ": ", failure)
    end
  end)
  if not started then
    pending[replica] = nil
    ngx.log(ngx.ERR, "no timer for a probe of ", replica, ": ", problem)
  end
end

local function note_health(replica, began, result)
  if result == "silent" or result == "unnamed" or result == "unreachable" then
    states:add("quiet|" .. replica, began)
  else -- the replica itself, or its kernel, said something
    states:delete("quiet|" .. replica)
  end
  states:set("seen|" .. replica, ngx.now() .. " " .. result)
  ngx.shared.replicas:set("state " .. replica, result:find("^HTTP") and result or "no answer", replies.KEPT_SECONDS)
end

--- Asks a replica for its /health, unless it is asked just now, and then calls `done`.
function probes.ask_health(replica, done)
  if looking[replica] then
    return done()
  end
  local began = ngx.now()
  apart(looking, replica, function()
    note_health(replica, began, outcome(replies.ask(replica, {path = "/health", seconds = HEALTH_SECONDS})))
    done()
  end)
end

--- What the last /health said, and how many seconds ago; or nil.
function probes.health(replica)
  local at, result = (states:get("seen|" .. replica) or ""):match("^(%S+) (.*)$")
  return result, at and ngx.now() - at
end

--- For how many seconds it has left every /health unanswered; 0 if the last was answered.
function probes.quiet_seconds(replica)
  local since = states:get("quiet|" .. replica)
  return since and ngx.now() - since or 0
end

local function last_token(replica)
  local at, path, result = (states:get("token|" .. replica) or ""):match("^(%S+) (%S+) (.*)$")
  return tonumber(at), path, result
end

--- When it last answered a request for one token, seconds; 0: never. A model that neither completes nor embeds (a reranker)
-- says so with a 4xx: it answers, which is what counts.
function probes.token_at(replica)
  local at, path, result = last_token(replica)
  local answered = at and (result == "HTTP 200" or (path == "/v1/embeddings" and result:find("^HTTP 4")))
  return answered and at or 0
end

--- How long a request for a token has been waiting, seconds; -1: none does.
function probes.asked_seconds(replica)
  return asking[replica] and ngx.now() - asking[replica] or -1
end

--- Asks for one token, unless that is waited for already: a completion, or an embedding where that is refused.
function probes.ask_token(model, replica)
  if asking[replica] then
    return
  end
  local _, last_path, result = last_token(replica)
  local embeds = last_path == "/v1/embeddings" or (result and result:find("^HTTP 4"))
  local path = embeds and "/v1/embeddings" or "/v1/completions"
  local body = embeds and {model = model.name, input = "Hello"} or {model = model.name, prompt = "Hello", max_tokens = 1}
  apart(asking, replica, function()
    local asked = {path = path, body = cjson.encode(body), seconds = TOKEN_SECONDS}
    local said = outcome(replies.ask(replica, asked))
    states:set("token|" .. replica, ngx.now() .. " " .. path .. " " .. said)
  end)
end

return probes
