-- The prefixes of a request, as a chain of hashes: two requests that share the first n hashes share the text up to there.
--
-- A boundary follows a message once at least LEAST bytes have come since the last one (vLLM's own prefix cache counts in
-- blocks of 16 tokens), and a long text is cut where its length alone says, so that documents that differ at their end still
-- share their beginning.

local bit = require "bit"
local ffi = require "ffi"

-- zlib's, which nginx is linked with.
ffi.cdef "unsigned long crc32(unsigned long crc, const char *buffer, unsigned int length);"
local bytes = ffi.typeof("const char *")

local LEAST = 256 -- bytes, some 64 tokens
local SLICE = 2048
local MOST = 64 -- boundaries; what comes after them is one more piece of prompt

local prefix = {}

local function is_list(value)
  return type(value) == "table" and (value[1] ~= nil or next(value) == nil)
end

-- Text of anything, the same for what is the same: the keys of a table have no order of their own. Of an image or a recording
-- the ends are enough, and it is no text to be counted by its length.
local function written(value, key)
  if type(value) == "string" then
    if #value > 1024 and key ~= "text" then
      return value:sub(1, 512) .. #value .. value:sub(-512)
    end
    return value
  elseif type(value) ~= "table" then
    return tostring(value)
  end
  local parts = {}
  if is_list(value) then
    for i = 1, #value do
      parts[i] = written(value[i])
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name in pairs(value) do
    parts[#parts + 1] = tostring(name)
  end
  table.sort(parts)
  for i, name in ipairs(parts) do
    parts[i] = name .. ":" .. written(value[name], name)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

-- Text of what may be left out.
local function text(value)
  if type(value) == "string" then
    return value
  end
  return (value == nil or value == ngx.null) and "" or written(value)
end

--- 32 bits that stand for a text, or for a part of one behind what `before` stands for; from `from` on, `length` bytes of it.
-- A whole number, with a sign. Two prefixes in a thousand million are taken for each other: it is a hint.
function prefix.digest(before, added, from, length)
  local start = ffi.cast(bytes, added) + (from or 0)
  return bit.tobit(tonumber(ffi.C.crc32(before % 4294967296, start, length or #added)))
end

-- What a message adds to the prompt. Its role is left out: it tells no two prompts apart that their texts do not.
local function spoken(message)
  if type(message) ~= "table" then
    return "" -- the engine refuses it
  end
  local said = text(message.content)
  return message.tool_calls == nil and said or said .. text(message.tool_calls)
end

-- {hashes, tokens, total}: the chain, the tokens up to each of its boundaries, and all tokens; four bytes each.
local function chain(seed, pieces)
  local hashes, tokens, links = {}, {}, 0
  -- `hash` stands for all text that came before, of which `waiting` bytes came after the last boundary.
  local hash, waiting, total = seed, 0, 0
  for i = 1, #pieces do
    local added = pieces[i]
    if type(added) ~= "string" then
      added = spoken(added)
    end
    local from, left = 0, #added
    while waiting + left > SLICE and links < MOST do
      local length = SLICE - waiting
      hash = prefix.digest(hash, added, from, length)
      from, left, waiting, links = from + length, left - length, 0, links + 1
      hashes[links] = hash
      tokens[links] = math.floor((total + from + 3) / 4)
    end
    total = total + #added
    if links < MOST then
      hash = prefix.digest(hash, added, from, left)
      waiting = waiting + left
      if waiting >= LEAST then
        waiting, links = 0, links + 1
        hashes[links] = hash
        tokens[links] = math.floor((total + 3) / 4)
      end
    end
  end
  return {hashes = hashes, tokens = tokens, total = math.floor((total + 3) / 4)}
end

-- The prompt's pieces in the order that the model reads them, texts and messages, of any body that an engine takes.
local function pieces(body)
  local messages = body.messages
  if type(messages) == "table" then
    if body.tools == nil then
      return messages
    end
    local all = {text(body.tools)} -- they come before anything else
    for i = 1, #messages do
      all[i + 1] = messages[i]
    end
    return all
  elseif body.prompt ~= nil then -- a list is several prompts, or one of token ids
    return {text(body.prompt)}
  end
  return {text(body.instructions) .. text(body.tools), text(body.input == nil and body.query or body.input)}
end

--- boundaries(body, seed) → {hashes, tokens, total}: the chain's hashes, the tokens (estimated) up to each, and of all.
-- `seed`, a hash, keeps models apart. Four bytes a token: only the proportion of what matched to what is new counts.
function prefix.boundaries(body, seed)
  return chain(seed, pieces(body))
end

return prefix
