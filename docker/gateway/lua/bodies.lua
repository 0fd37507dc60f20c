-- Request bodies as JSON. A table costs 64 bytes of memory, and `[]` is two of text: bodies with more parts than anybody's
-- are refused before they are parsed, and so is what is nested deeper than the engine's own parser goes.

local cjson = require("cjson").new()

local files = require "gateway.files"

cjson.decode_max_depth(1000)
cjson.decode_invalid_numbers(false)

-- Objects and lists, and values, that are parsed: some 20 MB at most.
local MOST_BRACKETS = 200000
local MOST_COMMAS = 1000000
-- Shorter bodies cannot have so many of either that it would matter.
local SMALL = 262144

local bodies = {}

-- Whether a text has too many parts, strings included: nobody's has.
local function exceeds(text)
  local brackets, commas = 0, 0
  for i = 1, #text do
    local byte = text:byte(i)
    if byte == 44 then
      commas = commas + 1
    elseif byte == 91 or byte == 123 then
      brackets = brackets + 1
    end
  end
  return brackets > MOST_BRACKETS or commas > MOST_COMMAS
end

--- The text of the request's body. Raises what nginx cannot read.
function bodies.text()
  ngx.req.read_body()
  local text = ngx.req.get_body_data()
  if text then
    return text
  end
  local name = ngx.req.get_body_file()
  if not name then
    return ""
  end
  return files.read(name)
end

--- Whether a text is UTF-8, as JSON has to be. Engines look for themselves: this is for what the gateway says again.
function bodies.is_utf8(text)
  return ngx.re.find(text, "^", "uo") ~= nil
end

--- The object in a text, or nil, and why: `invalid_json` or `request_too_complex`, with a sentence.
function bodies.parse(text)
  if #text > SMALL and exceeds(text) then
    return nil, "request_too_complex", "The request body has too many parts."
  end
  local ok, body = pcall(cjson.decode, text)
  if not ok then
    local why = tostring(body)
    if why:find("nested", 1, true) then
      return nil, "request_too_complex", "The request body is nested deeper than 1,000 levels."
    end
    -- The sentence repeats nothing of what was sent.
    local at = why:match("at character (%d+)")
    return nil, "invalid_json", "The request body is not JSON" .. (at and " (at byte " .. at .. ")." or ".")
  elseif type(body) ~= "table" or not text:find("^[ \t\r\n]*{") then
    return nil, "invalid_json", "The request body is JSON, but not an object."
  end
  return body
end

return bodies
