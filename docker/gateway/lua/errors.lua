-- Every error of the gateway's own, in OpenAI's shape: {"error": {message, type, param, code}}. Those that Lua finds are sent
-- where they are found (fail); those that nginx finds lead to a location of error_page (page, upstream, plain_http).

local bodies = require "gateway.bodies"
local deployment = require "gateway.deployment"
local health = require "gateway.health"
local json = require "gateway.json"
local load = require "gateway.load"
local replicas = require "gateway.replicas"

local RETRY_SECONDS = 5
-- How often a request that reached no replica is sent again: one may come back and go away once more. nginx itself follows
-- five such redirects.
local MOST_REPEATS = 3

-- By status: type, code, message.
local PAGES = {
  [400] = {"invalid_request_error", "bad_request", "The request is not valid HTTP."},
  [401] = {"invalid_request_error", "invalid_api_key", "No API key that is known here was given."},
  [403] = {"invalid_request_error", "forbidden", "This is not allowed."},
  [404] = {"invalid_request_error", "unknown_url", "There is nothing at this path."},
  [405] = {"invalid_request_error", "method_not_allowed", "This path does not answer to this method."},
  [408] = {"invalid_request_error", "request_timeout", "The request did not arrive in time."},
  [411] = {"invalid_request_error", "length_required", "The request does not say how long its body is."},
  [413] = {"invalid_request_error", "request_too_large", "The request body is larger than this gateway accepts."},
  [414] = {"invalid_request_error", "uri_too_long", "The request line is too long."},
  [429] = {"rate_limit_error", "rate_limit_exceeded", "Too many requests."},
  [431] = {"invalid_request_error", "headers_too_large", "The request headers are too large."},
  [500] = {"server_error", "internal_error", "The gateway failed on this request."},
  [501] = {"invalid_request_error", "not_implemented", "The request uses a part of HTTP that is not supported."},
  [502] = {"server_error", "replica_failed", "The replica closed the connection before it answered."},
  [503] = {"server_error", "no_replica_available", "No replica of the model answers now."},
  [504] = {"server_error", "replica_timeout", "The replica did not answer in time."},
  [505] = {"invalid_request_error", "bad_request", "This version of HTTP is not supported."},
}

local errors = {}

--- Ends the request with an error. `more`: {type, param, retry_seconds, headers}, each of which may be left out; without a
-- message the status has one. Does not return.
function errors.fail(status, code, message, more)
  local page = PAGES[status]
  more = more or {}
  for name, value in pairs(more.headers or {}) do
    ngx.header[name] = value
  end
  if more.retry_seconds then
    ngx.header["Retry-After"] = more.retry_seconds
  end
  local told = {message = message or page[3], type = more.type or page[1], param = more.param or ngx.null, code = code}
  json.answer(status, {error = told})
  return ngx.exit(ngx.HTTP_OK)
end

-- A client's words, so that they can be said again: no more than 128 bytes, and UTF-8.
local function quoted(text)
  if #text > 128 then
    text = text:sub(1, 128):gsub("[\192-\255][\128-\191]*$", "")
  end
  if not bodies.is_utf8(text) then
    text = text:gsub("[\128-\255]", "?")
  end
  return text
end

--- A name that nothing has, of a key that may use those that are `known`: the usual cause is a typing error.
function errors.unknown_model(name, known)
  local message = ("The model `%s` does not exist. There are: %s."):format(quoted(name), table.concat(known, ", "))
  return errors.fail(404, "model_not_found", message, {param = "model"})
end

--- A request of another method.
function errors.wrong_method(allowed)
  local message = "This path answers to " .. allowed .. " only."
  return errors.fail(405, "method_not_allowed", message, {headers = {Allow = allowed}}) -- HTTP asks for it
end

-- Seconds until a request would pass nginx's own limit again.
local function seconds_to_next_request()
  return ngx.var.limit_conn_status == "REJECTED" and 1 or math.ceil(60 / (deployment.requests_per_minute or 60))
end

local function send_page(status)
  local page = PAGES[status] or PAGES[status < 500 and 400 or 500]
  local retry
  if status == 503 then
    retry = RETRY_SECONDS -- as long as a replica that failed is left out
  elseif status == 429 then
    retry = seconds_to_next_request()
  end
  return errors.fail(status, page[2], page[3], {type = page[1], retry_seconds = retry})
end

--- error_page: what nginx answers by itself.
function errors.page()
  return send_page(ngx.status)
end

--- Plain HTTP on the port that speaks TLS.
function errors.plain_http()
  return errors.fail(400, "https_required", "This port speaks HTTPS.")
end

-- How many it may be sent to: proxy_next_upstream_tries, or as many as there are.
local function most_tries(model)
  return math.min(3, #model.replicas)
end

-- Those that took no connection: the chosen one, whose name may be gone, and those that nginx then tried; all of them where
-- it had an address of none, and before the last time that a request is sent: that one waits for a look.
local function unreached(model, tried, last)
  if #tried == 0 or last then
    return model.replicas
  end
  if ngx.var.charge ~= "" then
    tried[#tried + 1] = (load.charged(ngx.var.charge))
  end
  return tried
end

--- 502 or 504: the request is sent again, from its own location on, which chooses anew or waits (routing.lua), if
--
-- - no replica took a connection: none can have begun it.
-- - nginx gave up early: if the name server has put a replica on the list or taken one off since it began (its peers have
--   changed), nginx looks for no other when its own one fails.
function errors.upstream()
  local var = ngx.var
  if ngx.is_subrequest then -- a mirror's copy
    return ngx.exit(ngx.HTTP_NO_CONTENT)
  end
  local connected = (var.upstream_connect_time or ""):find("[0-9]")
  if connected and (var.upstream_status or ""):find("504$") then
    return send_page(504)
  end
  local model, repeats = deployment.find(var.model), tonumber(var.repeats)
  local tried = replicas.tried(var.upstream_addr)
  local gave_up = connected and repeats == 0 and model and #tried < most_tries(model)
  local unsent = not connected and repeats < MOST_REPEATS
  if not model or not (gave_up or unsent) then
    return send_page(connected and 502 or 503)
  end
  if not connected then
    health.doubt(unreached(model, tried, repeats == MOST_REPEATS - 1))
  end
  var.repeats = repeats + 1
  return ngx.exec(var.uri, var.args)
end

return errors
