-- Counters in shared memory, told by metrics.lua. A key is `name|label|label…`; `|` is in no name of the deployment's.

local dict = ngx.shared.counters

local counters = {
  --- Upper bounds of the buckets, seconds.
  BOUNDS = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300},
}

function counters.add(key, amount)
  dict:incr(key, amount, 0)
end

--- One value into a histogram; buckets are kept apart here and summed up when they are told.
function counters.observe(name, model, seconds)
  if not seconds or seconds < 0 then
    return
  end
  local bounds = counters.BOUNDS
  local i = 1
  while bounds[i] and seconds > bounds[i] do
    i = i + 1
  end
  dict:incr(name .. "_bucket|" .. model .. "|" .. (bounds[i] or "+Inf"), 1, 0)
  dict:incr(name .. "_sum|" .. model, seconds, 0)
end

return counters
