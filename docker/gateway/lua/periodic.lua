-- What happens by the clock, in one worker; nginx starts it anew, with the same number, when it dies.

local health = require "gateway.health"
local key_file = require "gateway.key_file"
local progress = require "gateway.progress"
local repair = require "gateway.repair"

local periodic = {}

local function every(seconds, name, run)
  local function tick(ends)
    if ends then -- the worker does
      return
    end
    local ok, problem = pcall(run)
    if not ok then
      ngx.log(ngx.ERR, name, ": ", problem)
    end
  end
  tick(false)
  assert(ngx.timer.every(seconds, tick))
end

--- init_worker_by_lua.
function periodic.start()
  -- A worker of Lua holds a few MB: it may use some more before it is tidied up, which a request then hardly pays for.
  collectgarbage("setpause", 500)
  math.randomseed(ngx.now() * 1000 + ngx.worker.pid())
  if ngx.worker.id() == 0 then
    every(1, "keys", key_file.refresh)
    every(1, "repair", repair.repair)
    every(1, "health", health.probe)
    assert(ngx.timer.every(2, progress.measure_all))
  end
end

return periodic
