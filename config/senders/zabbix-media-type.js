// Zabbix, Administration > Media types > Webhook > Script. Parameters: docs/senders/zabbix.md.
// Zabbix itself tries again (Attempts, Attempt interval) when this throws.
var params = JSON.parse(value);
var wanted = ['url', 'subject', 'name', 'id', 'status', 'hostname', 'event_id', 'severity'];
wanted.forEach(function (name) {
    if (typeof params[name] !== 'string') {
        throw 'Surgegate: the parameter ' + name + ' is missing';
    }
});
var body = {};
Object.keys(params).forEach(function (name) {
    // A macro that Zabbix could not resolve says nothing.
    if (name !== 'url' && !/^\{[A-Z0-9_.]+\}$/.test(params[name])) {
        body[name] = params[name];
    }
});
body.url = typeof params.event_url === 'string' && params.event_url.indexOf('{') !== 0 ? params.event_url : '';
delete body.event_url;
// {EVENT.VALUE} is 1 for a problem and 0 for a recovery; some send it as the status.
if (body.status === '1' || body.status === '0') {
    body.status = body.status === '1' ? 'PROBLEM' : 'RESOLVED';
}
var request = new HttpRequest();
request.addHeader('Content-Type: application/json');
var answer = request.post(params.url, JSON.stringify(body));
var status = request.getStatus();
if (status < 200 || status > 299) {
    // The URL has a key: it is not told.
    throw 'Surgegate answered ' + status + ': ' + answer;
}
return answer;
