-- Corrects the cost of an admitted request: charges more, even below empty, or refunds.
--
-- KEYS: the counts. ARGV[1]: JSON {limits, now}; each limit is {algorithm, more, shadow, capacity,
-- parameters...}, followed by {time of the charge, cost charged and not refunded since} in `since`.

local asked = cjson.decode(ARGV[1])
local now = clock(asked.now)
for i, limit in ipairs(asked.limits) do
  local algorithm, charge = algorithms[limit[1]], asked.since[i]
  local state = algorithm.load(KEYS[i], limit, now)
  if state then
    algorithm.settle(limit, state, limit[2], now, charge[1], charge[2])
    algorithm.save(KEYS[i], limit, state, now)
  end
end
return now
