-- The tokens that an answer took, where keys are asked for.
--
-- Engines then tell a usage with every chunk of a stream and in one more at its end (enable_force_include_usage): clients
-- that did not ask for it do not get it.

local KEY = ',"usage":{'
-- A longer event goes out as it comes.
local LONGEST = 65536
-- Where an answer that comes whole tells its usage: among its last bytes.
local ENDING = 2048

local usage = {}

--- Notes which usage the client asked for; a variable, because a second try begins anew.
function usage.expect(body)
  local options = body.stream == true and body.stream_options
  if type(options) == "table" and options.include_usage == true then
    ngx.var.usage_asked = options.continuous_usage_stats == true and "always" or "once"
  end
end

-- The last place of a plain text, or nil.
local function last(text, mark)
  local at = text:find(mark, 1, true)
  local found
  while at do
    found, at = at, text:find(mark, at + 1, true)
  end
  return found
end

-- `PROMPT COMPLETION`, of the last usage in a text that holds one; else empty.
local function numbers(text)
  local from = last(text, '"usage":{')
  if not from then
    return ""
  end
  local told = text:sub(from)
  local prompt = told:match('"prompt_tokens":(%d+)') or told:match('"input_tokens":(%d+)')
  local completion = told:match('"completion_tokens":(%d+)') or told:match('"output_tokens":(%d+)')
  return prompt and prompt .. " " .. (completion or 0) or ""
end

-- Whole events without the usage that the client did not ask for; the last usage is noted.
local function shorn(text, asked)
  local parts = {}
  local from = 1
  local at = text:find(KEY, 1, true)
  while at do
    -- Usage has no text in it, so braces count.
    local _, stop = text:find("^%b{}", at + #KEY - 1)
    if not stop then
      break
    end
    -- Text between quotes cannot hold the key: its own quotes are escaped. The event without choices is the last.
    if text:sub(at - 2, at - 1) == "[]" then
      ngx.var.usage = numbers(text:sub(at, stop))
      if asked == "" then
        local gap = last(text:sub(1, at - 1), "\n\n")
        parts[#parts + 1] = text:sub(from, math.max(from - 1, gap and gap + 1 or 0))
        local _, next_gap = text:find("\n\n", stop, true)
        from = next_gap and next_gap + 1 or #text + 1
      end
    elseif asked ~= "always" then
      parts[#parts + 1] = text:sub(from, at - 1)
      from = stop + 1
    end
    at = text:find(KEY, math.max(stop, from), true)
  end
  if from == 1 then
    return text
  end
  parts[#parts + 1] = text:sub(from)
  return table.concat(parts)
end

-- A piece of a stream: what of it goes to the client now.
local function events(state, piece, ends)
  local whole = state.rest .. piece
  state.rest = ""
  if not ends and whole ~= "" and whole:sub(-2) ~= "\n\n" then
    local gap = last(whole, "\n\n")
    local stop = gap and gap + 1 or 0
    if #whole - stop < LONGEST then
      state.rest = whole:sub(stop + 1)
      whole = whole:sub(1, stop)
    end
  end
  if whole:find('"usage":{"input_tokens"', 1, true) then -- /v1/responses has one of its own, which stays
    ngx.var.usage = numbers(whole)
    return whole
  end
  return shorn(whole, state.asked)
end

--- What is kept of an answer that begins, or nil: one that tells nothing.
function usage.begin()
  if ngx.status ~= 200 then
    return nil
  end
  local kind = ngx.header["Content-Type"] or ""
  return {streams = kind:sub(1, 17) == "text/event-stream", rest = "", asked = ngx.var.usage_asked}
end

--- body_filter_by_lua: a piece of an answer, and what of it goes to the client.
function usage.pass(state)
  local piece, ends = ngx.arg[1], ngx.arg[2]
  if state.streams then
    local out = events(state, piece, ends)
    if out ~= piece then
      ngx.arg[1] = out
    end
    return
  end
  state.rest = (state.rest .. piece):sub(-ENDING)
  if ends then
    ngx.var.usage = numbers(state.rest)
  end
end

return usage
