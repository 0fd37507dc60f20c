-- JSON of what the gateway itself tells: cjson writes a table without entries as an object, and lists may be empty.

local cjson = require "cjson"

local LIST = {}

local json = {}

--- Marks a table as a list.
function json.list(values)
  return setmetatable(values, LIST)
end

--- The text of a value; lists are those that were marked.
function json.encode(value)
  if type(value) ~= "table" then
    return cjson.encode(value)
  end
  local parts = {}
  if getmetatable(value) == LIST then
    for i, one in ipairs(value) do
      parts[i] = json.encode(one)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, one in pairs(value) do
    parts[#parts + 1] = cjson.encode(name) .. ":" .. json.encode(one)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- Answers a request.
function json.answer(status, value)
  ngx.req.discard_body()
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.print(json.encode(value) .. "\n")
end

return json
