-- POST /FUNCTION with a JSON list of arguments, for the test: its answer is the list of what the function returns.

local cjson = require "cjson"

local load = require "gateway.load"
local quota = require "gateway.quota"

local function present(value)
  if value == cjson.null then
    return nil
  elseif type(value) == "table" then
    for name, one in pairs(value) do
      value[name] = present(one)
    end
  end
  return value
end

ngx.req.read_body()
local given = cjson.decode(ngx.req.get_body_data())
local name = ngx.var.uri:sub(2)
if name == "counters" then
  local found = {}
  for _, dict in ipairs({ngx.shared.quota, ngx.shared.load}) do
    for _, key in ipairs(dict:get_keys(0)) do
      found[key] = dict:get(key)
    end
  end
  ngx.print(cjson.encode({found}))
else
  local call = quota[name] or load[name]
  local first, second = call(present(given[1]), present(given[2]), present(given[3]))
  ngx.print(cjson.encode({first == nil and cjson.null or first, second}))
end
