-- An incident is addressed by this name. KEYS: the name. ARGV: what it stands for, its life in milliseconds.
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
