// The vendor's published client (npm: opsgenie-sdk) against a running Surgegate: create, repeat, acknowledge, note, close, and
// how each request ended. Called by tests/it/npm.rs: `opsgenie.cjs URL KEY`. Prints `ok`.
const assert = require('node:assert');
const { promisify } = require('node:util');
const opsgenie = require('opsgenie-sdk');

const [host, api_key] = process.argv.slice(2);
opsgenie.configure({ host, api_key });
const api = opsgenie.alertV2;
const ask = (method, ...given) => promisify(method)(...given, {});
const alias = 'db-7-disk';
const byAlias = { identifier: alias, identifierType: 'alias' };

/** What came of a write. */
async function result(asked) {
  const answer = await asked;
  assert.strictEqual(answer.result, 'Request will be processed', JSON.stringify(answer));
  return (await ask(api.getRequestStatus, answer.requestId)).data;
}

async function main() {
  const alert = { message: 'disk full on db-7', alias, description: '99 %', tags: ['prod'], details: { free: '1%' }, priority: 'P2' };
  const first = await result(ask(api.create, { ...alert }));
  assert.ok(first.isSuccess && first.action === 'Create' && first.alias === alias, JSON.stringify(first));
  const again = await result(ask(api.create, { ...alert }));
  assert.strictEqual(again.alertId, first.alertId);

  const shown = (await ask(api.get, byAlias)).data;
  assert.deepStrictEqual(
    [shown.id, shown.message, shown.count, shown.priority, shown.tags, shown.details],
    [first.alertId, alert.message, 2, 'P2', alert.tags, alert.details],
  );
  const listed = (await ask(api.list, { limit: 10 })).data;
  assert.deepStrictEqual(listed.map((row) => row.id), [first.alertId]);

  const acknowledged = await result(ask(api.acknowledge, byAlias, { user: 'u', note: 'seen' }));
  assert.ok(acknowledged.isSuccess && acknowledged.alertId === first.alertId, JSON.stringify(acknowledged));
  assert.strictEqual((await ask(api.get, { identifier: first.alertId, identifierType: 'id' })).data.acknowledged, true);
  assert.ok((await result(ask(api.addNote, byAlias, { note: 'working' }))).isSuccess);
  const closed = await result(ask(api.close, byAlias, { user: 'u', note: 'done' }));
  assert.ok(closed.isSuccess && closed.action === 'Close', JSON.stringify(closed));
  assert.strictEqual((await ask(api.get, { identifier: first.alertId, identifierType: 'id' })).data.status, 'closed');

  const unknown = await result(ask(api.close, { identifier: 'never-seen', identifierType: 'alias' }, {}));
  assert.strictEqual(unknown.status, 'Alert does not exist');
  const nobody = await ask(api.get, { identifier: 'nobody', identifierType: 'id' }).then(() => null, (refused) => refused);
  assert.strictEqual(nobody && nobody.httpStatusCode, 404, JSON.stringify(nobody));
  const blank = await ask(api.create, { message: ' ' }).then(() => null, (refused) => refused);
  assert.strictEqual(blank && blank.httpStatusCode, 422, JSON.stringify(blank));
  console.log('ok');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
