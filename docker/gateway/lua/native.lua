-- The small API of older servers, mapped onto /v1/completions.

local cjson = require "cjson"

local answers = require "gateway.answers"
local bodies = require "gateway.bodies"
local deployment = require "gateway.deployment"
local errors = require "gateway.errors"
local health = require "gateway.health"
local json = require "gateway.json"
local keys = require "gateway.keys"
local models = require "gateway.models"
local routing = require "gateway.routing"

local native = {}

-- The model asked for; left out, it is the only one there is.
local function model_of(policy, name)
  if name == nil and #deployment.models == 1 then
    name = deployment.models[1].name
  end
  if type(name) ~= "string" then
    local message = "There are several models: the request needs a `model` that is text."
    return errors.fail(400, "missing_model", message, {param = "model"})
  end
  return routing.model_for(policy, name), name
end

-- Who asks, the body and its text. Prompts are a part of the answer: what is not UTF-8 cannot be.
local function read()
  local policy = keys.policy("POST")
  local body, text = routing.read()
  if not bodies.is_utf8(text) then
    return errors.fail(400, "invalid_json", "The request body is not UTF-8.")
  end
  return policy, body, text
end

-- Prompt and continuation together, as older servers answer; of choices `from` to `to`.
local function texts(prompt, choices, from, to)
  local found = {}
  for i = from, to do
    found[#found + 1] = prompt .. choices[i].text
  end
  return json.list(found)
end

-- Hands the request to /v1/completions with the rest of its body as it is, and the answer to `wrap`. Members are added at the
-- end of the text, where they count: numbers and empty lists would not survive being parsed and written again.
local function forward(policy, body, text, prompts, wrap)
  if body.stream == true then
    local message = "This path does not stream: use /v1/completions."
    return errors.fail(400, "unsupported_parameter", message, {param = "stream"})
  end
  local model, name = model_of(policy, body.model)
  local opened = text:match("^(.*)}[ \t\r\n]*$")
  ngx.var.native_body = ('%s,"model":%s,"prompt":%s}'):format(opened, cjson.encode(name), cjson.encode(prompts))
  ngx.ctx.wrap = wrap
  body.prompt, body.model = prompts, name
  routing.dispatch(policy, model, body)
end

--- access_by_lua of POST /generate: {prompt, …} → {text: [prompt + continuation, …]}
function native.generate()
  local policy, body, text = read()
  local prompt = body.prompt
  if type(prompt) ~= "string" then
    return errors.fail(400, "missing_prompt", "The request needs a `prompt` that is text.", {param = "prompt"})
  end
  forward(policy, body, text, prompt, function(choices)
    return "text", texts(prompt, choices, 1, #choices)
  end)
end

local function is_texts(value)
  if type(value) ~= "table" or #value == 0 then
    return false
  end
  for _, one in pairs(value) do
    if type(one) ~= "string" then
      return false
    end
  end
  return true
end

--- access_by_lua of POST /batch_generate: {prompts, …} → {results: [{text: […]}, …]} in the prompts' order
function native.batch_generate()
  local policy, body, text = read()
  local prompts = body.prompts
  if not is_texts(prompts) then
    return errors.fail(400, "missing_prompts", "The request needs `prompts`, a list of texts.", {param = "prompts"})
  end
  forward(policy, body, text, prompts, function(choices)
    local each = #choices / #prompts -- n choices a prompt, in order
    local results = {}
    for i, prompt in ipairs(prompts) do
      results[i] = {text = texts(prompt, choices, (i - 1) * each + 1, i * each)}
    end
    return "results", json.list(results)
  end)
end

--- header_filter_by_lua: the answer's length changes with it.
function native.open_length()
  answers.explain()
  if ngx.status == 200 and ngx.ctx.wrap then
    ngx.header.content_length = nil
    ngx.ctx.parts = {}
  end
end

local function translated(wrap, text)
  local reply = cjson.decode(text)
  ngx.var.usage = reply.usage.prompt_tokens .. " " .. reply.usage.completion_tokens
  local name, value = wrap(reply.choices)
  return json.encode({[name] = value, model = reply.model, usage = reply.usage}) .. "\n"
end

--- body_filter_by_lua: the whole answer of an engine in the older shape; an error stays as it is.
function native.translate()
  local parts = ngx.ctx.parts
  if not parts then
    return answers.pass()
  end
  answers.begin()
  parts[#parts + 1] = ngx.arg[1]
  if not ngx.arg[2] then
    ngx.arg[1] = nil
    return
  end
  local text = table.concat(parts)
  local ok, answer = pcall(translated, ngx.ctx.wrap, text)
  if not ok then
    ngx.log(ngx.ERR, "an answer of /v1/completions that cannot be told in the older shape: ", answer)
  end
  ngx.arg[1] = ok and answer or text
end

--- GET /model_info
function native.model_info()
  local policy = keys.policy("GET", "HEAD")
  local known = models.all_facts(deployment.models)
  local described = {}
  for _, model in ipairs(deployment.models) do
    if keys.permits(policy, model.name) then
      local state = health.status(model)
      described[#described + 1] = {
        model = model.name,
        aliases = json.list(model.aliases),
        max_model_len = known[model].max_model_len,
        ready = state.ready,
        replicas = state.replicas,
      }
    end
  end
  json.answer(200, {models = json.list(described)})
end

return native
