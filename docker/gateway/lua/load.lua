-- What each replica has to do, in shared memory (dict `load`): requests in flight and prompt tokens that wait for a first
-- byte, in one number, so that one read or one change of both is one call. What a worker added is kept beside the sum:
-- when a worker is killed, what it can no longer take back is taken back for it.

local dict = ngx.shared.load

-- Amount of one request in flight; below it is room for the pending tokens.
local REQUEST = 4294967296

local load = {}

-- Counter → this worker's part of it. Counters are the deployment's and its keys', so there are few.
local parts = {}

local function part_of(counter)
  local name = parts[counter]
  if not name then
    name = "p|" .. ngx.worker.pid() .. "|" .. counter
    parts[counter] = name
  end
  return name
end

--- Adds to a counter of the whole gateway, and to this worker's part of it.
function load.hold(counter, amount)
  dict:incr(counter, amount, 0)
  dict:incr(part_of(counter), amount, 0)
end

--- Adds requests in flight, and prompt tokens that wait, to a replica.
function load.work(replica, requests, tokens)
  load.hold("l|" .. replica, requests * REQUEST + tokens)
end

--- What a request holds, by its variable `charge`, as replica and tokens: `REPLICA TOKENS`.
function load.charged(charge)
  local space = charge:find(" ", 1, true)
  return charge:sub(1, space - 1), tonumber(charge:sub(space + 1))
end

--- A counter's value, 0 where nothing was counted.
function load.held(counter)
  return dict:get(counter) or 0
end

--- Requests in flight and pending tokens of a value of `l|REPLICA`.
function load.parted(value)
  if not value or value <= 0 then
    return 0, 0
  end
  local pending = value % REQUEST
  return (value - pending) / REQUEST, pending
end

--- Requests in flight and pending tokens of a replica.
function load.of(replica)
  return load.parted(dict:get("l|" .. replica))
end

--- Every `p|PID|COUNTER` as {PID, COUNTER, value}.
function load.all_parts()
  local found = {}
  for _, key in ipairs(dict:get_keys(0)) do
    local pid, counter = key:match("^p|(%d+)|(.*)$")
    if pid then
      found[#found + 1] = {pid, counter, dict:get(key) or 0}
    end
  end
  return found
end

return load
