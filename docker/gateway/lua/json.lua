-- JSON of what the gateway itself tells, for people too. cjson writes a table without entries as an object, though lists may
-- be empty, and every slash as `\/`, which is what half the models' names have.

local cjson = require "cjson"

local LIST = {}

local json = {}

--- Marks a table as a list.
function json.list(values)
  return setmetatable(values, LIST)
end

local function scalar(value)
  return (cjson.encode(value):gsub("\\/", "/"))
end

--- The text of a value; lists are those that were marked.
function json.encode(value)
  if type(value) ~= "table" then
    return scalar(value)
  end
  local parts = {}
  if getmetatable(value) == LIST then
    for i, one in ipairs(value) do
      parts[i] = json.encode(one)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, one in pairs(value) do
    parts[#parts + 1] = scalar(name) .. ":" .. json.encode(one)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

--- Answers a request. What it did not read of the body must not be taken for the next request.
function json.answer(status, value)
  local body = json.encode(value) .. "\n"
  ngx.req.discard_body()
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.header["Content-Length"] = #body
  ngx.print(body)
end

return json
