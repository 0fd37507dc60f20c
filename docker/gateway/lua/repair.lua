-- Each second, what no request does for itself: what a killed worker held is taken back, and the mean time of a request is
-- kept for admission.lua.

local counters = require "gateway.counters"
local deployment = require "gateway.deployment"
local load = require "gateway.load"

local dict = ngx.shared.load

local repair = {}

-- Takes back one worker's part of a counter; a ticket of a queue has then left it.
local function drop(pid, counter, amount)
  dict:delete("p|" .. pid .. "|" .. counter)
  if amount == 0 then
    return
  end
  dict:incr(counter, -amount, 0)
  local class = counter:match("^w|(.*|.*)$")
  if class then
    dict:incr("d|" .. class, amount, 0)
  end
end

-- Mean seconds at a replica of the requests that have ended, which those since the last look shift: ten of them for a half. It
-- comes out of the histogram that is counted in any case, less what answers.lua leaves out of it.
local function mean(model)
  local counted = ngx.shared.counters
  local name = "request_duration_seconds"
  local sum = (counted:get(name .. "_sum|" .. model.name) or 0) - (counted:get("unserved_seconds|" .. model.name) or 0)
  local count = (counted:get(name .. "_bucket|" .. model.name .. "|+Inf") or 0) - (counted:get("unserved|" .. model.name) or 0)
  for _, bound in ipairs(counters.BOUNDS) do
    count = count + (counted:get(name .. "_bucket|" .. model.name .. "|" .. bound) or 0)
  end
  local more = count - load.held("count|" .. model.name)
  if more <= 0 then
    return
  end
  local seconds = math.max(0, sum - load.held("sum|" .. model.name)) / more
  local before = dict:get(model.service) or seconds
  dict:set(model.service, before + (seconds - before) * (1 - 0.933 ^ more))
  dict:set("count|" .. model.name, count)
  dict:set("sum|" .. model.name, sum)
end

-- Whether a process runs. A worker that ends after a reload still has its process, and its streams.
local function lives(pid)
  local file = io.open("/proc/" .. pid .. "/stat")
  if file then
    file:close()
  end
  return file ~= nil
end

--- By one worker.
function repair.repair()
  for _, model in ipairs(deployment.models) do
    mean(model)
  end
  local alive = {}
  for _, part in ipairs(load.all_parts()) do
    local pid = part[1]
    if alive[pid] == nil then
      alive[pid] = lives(pid)
    end
    if not alive[pid] then
      drop(pid, part[2], part[3])
    end
  end
end

return repair
