-- The file of API keys: the SHA-256 of each key and its policy. keys.lua reads the policies, as JSON by digest, from the dict
-- `api_keys`; no key is kept anywhere.

local cjson = require "cjson"

local deployment = require "gateway.deployment"
local files = require "gateway.files"
local keys = require "gateway.keys"

local FILE = "/run/secrets/api_keys"
-- The entry beside the digests: the digest of what was loaded last, or why it could not be.
local LOADED = "loaded"

local dict = ngx.shared.api_keys

local key_file = {}

local function present(value)
  return value ~= nil and value ~= cjson.null
end

-- A limit of the file: null does not limit.
local function limit(value)
  if not present(value) then
    return nil
  end
  assert(type(value) == "number" and value > 0 and value % 1 == 0, "a limit is no whole number above 0")
  return value
end

local function names(models)
  if not present(models) then
    return nil
  end
  assert(type(models) == "table", "its models are no list of names")
  for _, model in pairs(models) do
    assert(type(model) == "string", "its models are no list of names")
  end
  return models
end

-- One entry's policy. Raises where it is not what `vllmstack keys` writes: in doubt nobody passes.
local function policy(entry)
  local digest, name = tostring(entry.sha256), tostring(entry.name)
  assert(
    #digest == 64 and digest:find("^[0-9a-f]+$") and #name <= 64 and name:find("^[A-Za-z0-9][A-Za-z0-9._-]*$"),
    "its name or sha256 is none"
  )
  return {
    name = name,
    models = names(entry.models),
    requests_per_minute = limit(entry.requests_per_minute),
    tokens_per_minute = limit(entry.tokens_per_minute),
    concurrency = limit(entry.concurrency),
    priority = entry.priority == "batch" and "batch" or "interactive",
    debug = entry.debug == true,
  }
end

-- The words of an error without the place in this file.
local function words(problem)
  return (tostring(problem):gsub("^[^ ]+:%d+: ", ""))
end

-- Digest → policy of every entry that can be used; one that cannot is named by its number only.
local function parse(text)
  local listed = cjson.decode(text).keys
  assert(type(listed) == "table", "it has no list `keys`")
  local policies = {}
  for number, entry in ipairs(listed) do
    local ok, found = pcall(policy, entry)
    if ok then
      policies[entry.sha256] = cjson.encode(found)
    else
      ngx.log(ngx.ERR, FILE, ": keys/", number - 1, " is left out: ", words(found))
    end
  end
  return policies
end

-- Puts the policies in place of those there were; what is revoked goes first, so that there is room.
local function replace(policies)
  for _, key in ipairs(dict:get_keys(0)) do
    if key ~= LOADED and not policies[key] then
      dict:delete(key)
    end
  end
  local count = 0
  for key, found in pairs(policies) do
    dict:set(key, found)
    count = count + 1
  end
  ngx.log(ngx.WARN, FILE, ": ", count, " keys")
end

-- What this process read last.
local last

--- Takes the file over if it changed. What cannot be read, or is being written just now, changes nothing.
function key_file.load()
  local ok, found = pcall(files.read, FILE)
  if ok and found == last then
    return
  end
  if ok then
    last = found
    local policies
    ok, policies = pcall(parse, found)
    found = ok and keys.digest(found) or policies
    if ok and dict:get(LOADED) ~= found then
      replace(policies)
    end
  else
    last = nil
  end
  if not ok then
    found = FILE .. " cannot be used: " .. words(found)
    if dict:get(LOADED) ~= found then
      ngx.log(ngx.ERR, found)
    end
  end
  dict:set(LOADED, found)
end

--- Each second: a changed file counts within a second or two.
function key_file.refresh()
  if deployment.api_keys then
    key_file.load()
  end
end

return key_file
