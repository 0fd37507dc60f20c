-- For tests only: how many entries the shared dictionaries have, and what is still held in `load`.

local cjson = require "cjson"

local ZONES = {"counters", "load", "prefixes", "quota", "api_keys", "replicas", "facts", "states"}

local sizes, held = {}, {}
for _, zone in ipairs(ZONES) do
  sizes[zone] = #ngx.shared[zone]:get_keys(0)
end
for _, key in ipairs(ngx.shared.load:get_keys(0)) do
  local value = ngx.shared.load:get(key)
  if key:find("^[lwc]|") and value ~= 0 then
    held[key] = value
  end
end
ngx.print(cjson.encode({sizes = sizes, held = held}))
