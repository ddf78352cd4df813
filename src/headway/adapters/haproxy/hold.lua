-- The head of a backend's queue waits here until a replica can be reached. See waiting.py for how it gets here.
--
-- Written by Headway; changes are lost. Argument: the Unix socket that is told how many requests wait.
--
-- The state is shared by all threads (lua-load): next to nobody runs here at a time, so the one lock costs nothing.

local teller_socket = ...
local POLL_MS = 5        -- between looks for a replica
local SLOW_POLL_MS = 50  -- the same where more than a few look, which only a reload brings about
local FEW = 8
local TELL_MS = 20       -- between looks at what to tell
local REPEAT_MS = 200    -- a count that only changed is told this often at most
local RETRY_MS = 500     -- between tries to reach the one who wants to know
local LOST_MS = 1000     -- who has not looked for this long has gone
local DEAD_MS = 3000     -- a task that was not seen for this long has failed; it waits a second at most
local ROOM_BYTES = 65536 -- of a body, well below what the buffer takes

local holds = Map.new("holds.map", Map._str)
local routes = Map.new("routes.map", Map._str)
local waiting = {}       -- model/version -> what is known of those who wait for it
local telling = 0        -- number of the task that tells
local told_at = 0        -- when it was last seen at work
local numbers = 0

local function now_ms()
    local now = core.now()
    return now.sec * 1000 + now.usec // 1000
end

local function is_true(value)
    return value == true or value == 1
end

-- Replicas of the entry's backend that can be reached, and requests in its queue; as of a moment ago at most.
local function look(entry, now)
    if now - entry.looked_at >= POLL_MS then
        local backend = core.backends[entry.backend]
        local stats = backend and backend:get_stats() or { act = 0, qcur = 0 }
        entry.act, entry.queued, entry.looked_at = stats.act, stats.qcur, now
    end
    return entry.act
end

-- How many requests wait for a replica of the version: those here, and those behind them.
local function count(entry, now)
    entry.here = 0
    for number, seen in pairs(entry.seen) do
        if now - seen < LOST_MS then
            entry.here = entry.here + 1
        else
            entry.seen[number] = nil
        end
    end
    return look(entry, now) > 0 and 0 or entry.queued + entry.here
end

-- One line: "iris/v1 3 wine/v2 1". Versions for which nobody waits any more are forgotten.
local function line(now)
    local words, keys = {}, {}
    for key, entry in pairs(waiting) do
        local number = count(entry, now)
        if number > 0 then
            words[#words + 1] = key .. " " .. number
            keys[key] = true
        end
    end
    for key, entry in pairs(waiting) do
        if not keys[key] and not next(entry.seen) then
            waiting[key] = nil
        end
    end
    table.sort(words)
    return table.concat(words, " "), keys
end

local function connect()
    local socket = core.tcp()
    socket:settimeout(1)
    if socket:connect("unix@" .. teller_socket) then
        return socket
    end
    socket:close()
    return nil
end

-- Tells while anybody waits, then ends. The connection stands for this process: when it closes, nobody waits here.
local function tell()
    local mine = telling
    local socket, said, said_at, tried_at, known = nil, "", 0, 0, {}
    while next(waiting) and mine == telling do
        local now = now_ms()
        told_at = now
        local text, keys = line(now)
        local begun = false
        for key in pairs(keys) do
            begun = begun or not known[key]
        end
        if not socket and now - tried_at >= RETRY_MS then
            tried_at, said, said_at = now, "", 0
            socket = connect()
        end
        local pause = text ~= said and REPEAT_MS or RETRY_MS -- repeated also to notice that nobody listens any more
        if socket and (begun or now - said_at >= pause) then
            if (socket:send(text .. "\n") or -1) > 0 then
                said, said_at, known = text, now, keys
            else
                socket:close()
                socket = nil
            end
        end
        core.msleep(TELL_MS)
    end
    if mine == telling then
        told_at = 0
    end
    if socket then
        socket:close()
    end
end

core.register_action("hold", { "http-req" }, function(txn)
    local now = now_ms()
    local key = txn:get_var("txn.route")
    local since = txn:get_var("txn.since")
    if not since then
        since = now
        txn:set_var("txn.since", since)
    end
    local number = txn:get_var("txn.number")
    if not number then
        numbers = numbers + 1
        number = numbers
        txn:set_var("txn.number", number)
    end
    local entry = waiting[key]

    local function finish(how)
        if entry then
            entry.seen[number] = nil
        end
        txn:set_var("txn.waited", math.max(0, now - since))
        txn:set_var("txn.hold", how)
        return act.CONTINUE
    end

    local name = routes:lookup(key)
    local backend = name and core.backends[name]
    local hold_ms = tonumber(holds:lookup(key))
    if not backend or not hold_ms then
        return finish("none")
    end
    if not entry or entry.backend ~= name then
        entry = { backend = name, seen = entry and entry.seen or {}, here = 0, looked_at = 0, act = 0, queued = 0 }
        waiting[key] = entry
    end
    if look(entry, now) > 0 then
        return finish("go")
    end
    if now - since >= hold_ms then
        return finish("late")
    end
    if is_true(txn.f:stopping()) then
        -- The worker that took over knows the replicas that come. All that still queue here may follow at once.
        local server = backend.servers["waiting"]
        if server then
            server:set_maxconn("10000")
        end
        return finish("moved")
    end
    -- No room for more of the request means that its client has left, unless it is the body that takes the room.
    if not txn.req:may_recv() and (txn.f:req_body_len() or 0) < ROOM_BYTES then
        entry.seen[number] = nil
        return act.ABORT
    end
    entry.seen[number] = now
    if now - told_at > DEAD_MS then
        telling, told_at = telling + 1, now
        core.register_task(tell)
    end
    act.wake_time(entry.here > FEW and SLOW_POLL_MS or POLL_MS)
    return act.YIELD
end, 0)
