-- What a request of a key may take, and what it took. Where no keys are asked for, nothing of this runs.

local counters = require "gateway.counters"
local errors = require "gateway.errors"
local quota = require "gateway.quota"
local usage = require "gateway.usage"

local spending = {}

local function positive(value)
  return type(value) == "number" and value > 0 and value or nil
end

-- Tokens that an answer may take, for the quota: settled by what it took.
local function answer_tokens(body)
  local most = positive(body.max_completion_tokens) or positive(body.max_tokens) or positive(body.max_output_tokens)
  local answers = positive(body.n) and body.n > 1 and math.min(body.n, 128) or 1
  return most and math.min(most, 1e6) * answers or 256
end

--- Takes the request's share of the key's quota; sends the error itself.
function spending.begin(policy, body, prompt_tokens)
  local receipt, refused = quota.take(policy, prompt_tokens + answer_tokens(body), ngx.now() * 1000)
  quota.headers(policy)
  if refused then
    local headers = not refused.retry_seconds and {["x-should-retry"] = "false"} or nil -- OpenAI's clients go by it
    local more = {type = refused.kind, retry_seconds = refused.retry_seconds, headers = headers}
    return errors.fail(429, "rate_limit_exceeded", quota.reason(policy, refused), more)
  end
  ngx.var.receipt = receipt
  usage.expect(body)
end

--- When the request has ended: the tokens that an engine told, counted and taken off the key's quota instead of what was
-- estimated.
function spending.settle(model)
  local var = ngx.var
  local prompt, completion = var.usage:match("^(%d+) (%d+)$")
  -- A client that left, early or late, had its prompt computed; a request that failed costs nothing.
  local tokens = (ngx.status == 200 or ngx.status == 499) and "unknown" or nil
  if prompt then
    tokens = prompt + completion
    counters.add("tokens_total|" .. model .. "|" .. var.key_name .. "|prompt", tonumber(prompt))
    counters.add("tokens_total|" .. model .. "|" .. var.key_name .. "|completion", tonumber(completion))
  end
  quota.settle(var.receipt, tokens)
end

return spending
