// The vendor's published client (npm: @pagerduty/pdjs) against a running Surgegate: create, repeat, acknowledge, resolve, a
// change. Called by tests/it/npm.rs: `pagerduty.cjs HOST:PORT ROUTING_KEY`. It speaks https alone. Prints `ok`.
const assert = require('node:assert');
const { event, trigger, acknowledge, resolve, change } = require('@pagerduty/pdjs');

const [server, routing_key] = process.argv.slice(2);
const payload = { summary: 'disk full', source: 'db-7', severity: 'critical', custom_details: { load: 0.75 } };

async function taken(asked, key) {
  const answer = await asked;
  assert.strictEqual(answer.response.status, 202, JSON.stringify(answer.data));
  assert.strictEqual(answer.data.status, 'success');
  if (key) assert.strictEqual(answer.data.dedup_key, key);
  return answer.data;
}

async function main() {
  const dedup_key = 'disk';
  await taken(event({ server, data: { routing_key, event_action: 'trigger', dedup_key, payload } }), dedup_key);
  await taken(trigger({ server, data: { routing_key, dedup_key, payload } }), dedup_key);
  await taken(acknowledge({ server, data: { routing_key, dedup_key } }), dedup_key);
  await taken(resolve({ server, data: { routing_key, dedup_key } }), dedup_key);

  const made = await taken(trigger({ server, data: { routing_key, payload } }));
  assert.strictEqual(made.dedup_key.length, 36, made.dedup_key);
  await taken(resolve({ server, data: { routing_key, dedup_key: made.dedup_key } }), made.dedup_key);

  await taken(change({ server, data: { routing_key, payload: { summary: 'deployed 1.4.2', source: 'ci' } } }));

  const refused = await trigger({ server, data: { routing_key: '0'.repeat(32), payload } });
  assert.strictEqual(refused.response.status, 400);
  assert.deepStrictEqual(refused.data.errors, ['Invalid routing key']);
  console.log('ok');
  // Its timers for time-outs are still running.
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
