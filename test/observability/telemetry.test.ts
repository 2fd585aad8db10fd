import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { startSandbox } from '../../sandbox/server.ts'
import { fakeMp4, type Json, key } from '../support/gateway.ts'
import { type Collector, startCollector } from '../support/otlp.ts'
import { type GatewayProcess, startProcess } from '../support/process.ts'
import { recordRequests } from '../support/requests.ts'

const traceId = '4bf92f3577b34da6a3ce929d0e0e4736'
const callersSpan = '00f067aa0ba902b7'
const headers = { traceparent: `00-${traceId}-${callersSpan}-01`, tracestate: 'vendor=abc' }

async function setUp(t: Test, collector: Pick<Collector, 'url'>, env: Record<string, string> = {}) {
  const sandbox = await startSandbox({ knobs: { discard: true, processing_delay_ms: 10 } })
  t.teardown(() => sandbox.close())
  const seen = recordRequests(t, sandbox.url)
  const gateway = await startProcess(t, {
    SANDBOX_BASE_URL: sandbox.url,
    DATABASE_URL: 'memory:',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    ...env,
  })
  // From then on there is a token, and no call of a caller asks for one.
  while (!gateway.output().includes('the credentials of the platform are valid')) await sleep(10)
  return { gateway, sandbox, seen }
}

/** Publishes a video, deletes it, and asks for what is not there. */
async function useGateway(gateway: GatewayProcess): Promise<string> {
  const { body: video } = await gateway.call('POST', '/v1/videos?token=in-a-query', { title: 'x' }, headers)
  const path = `/v1/videos/${video.id}`
  const { status } = await gateway.call('PUT', `${path}/content`, fakeMp4(100_000), headers)
  if (status !== 204) throw new Error(`the upload was answered with ${status}`)
  while ((await gateway.call('GET', path)).body.status !== 'ready') await sleep(20)
  await gateway.call('DELETE', path, undefined, headers)
  await gateway.call('GET', `${path}/info`, undefined, headers)
  await gateway.call('GET', '/health/live')
  return path
}

const lines = (gateway: GatewayProcess): Json[] =>
  gateway
    .output()
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))

t.test('requests and platform calls are spans of the client’s trace', async (t) => {
  const collector = await startCollector(t)
  const { gateway, seen } = await setUp(t, collector, {
    OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test',
    OTEL_EXPORTER_OTLP_HEADERS: 'x-collector-key=secret-of-the-collector',
  })
  const path = await useGateway(gateway)
  t.equal(await gateway.kill('SIGTERM'), 0)

  const servers = collector.spans.filter(({ kind, traceId: id }) => kind === 'server' && id === traceId)
  t.strictSame(
    servers.map(({ name, attributes, failed }) => [
      name,
      attributes['http.route'],
      attributes['http.response.status_code'],
      failed,
    ]),
    [
      ['POST /v1/videos', '/v1/videos', 201, false],
      ['PUT /v1/videos/:id/content', '/v1/videos/:id/content', 204, false],
      ['DELETE /v1/videos/:id', '/v1/videos/:id', 204, false],
      ['GET /v1/videos/:id/info', '/v1/videos/:id/info', 410, false],
    ],
  )
  for (const { parentSpanId } of servers) t.equal(parentSpanId, callersSpan)
  t.match(servers[1]?.attributes, { 'http.request.method': 'PUT', 'url.path': `${path}/content` })

  const callsOf = (parent: string | undefined) =>
    collector.spans.filter(({ kind, parentSpanId }) => kind === 'client' && parentSpanId === parent)
  t.strictSame(
    servers.map(({ spanId }) => callsOf(spanId).map(({ name }) => name)),
    [['POST'], ['GET', 'PUT'], ['DELETE'], []],
    'a slot, where to upload and the upload, the removal',
  )
  const polls = callsOf('')
  t.ok(polls.length >= 3, 'the poller’s calls are traces of their own')
  t.notOk(polls.some((span) => span.traceId === traceId))
  t.notOk(collector.spans.some(({ name }) => name.includes('health')))
  t.match(collector.spans[0]?.resource, {
    'service.name': 'video-gateway',
    'service.version': /^\d+\.\d+/,
    'deployment.environment.name': 'test',
  })
  t.match(collector.headers[0], { 'x-collector-key': 'secret-of-the-collector' })

  const upload = callsOf(servers[1]?.spanId).find(({ name }) => name === 'PUT')
  const received = seen.find(({ method }) => method === 'PUT')
  t.strictSame(
    [received?.headers.traceparent, received?.headers.tracestate],
    [`00-${traceId}-${upload?.spanId}-01`, 'vendor=abc'],
    'the platform gets one traceparent, that of the call',
  )
  t.ok(seen.every(({ headers }) => /^00-[0-9a-f]{32}-[0-9a-f]{16}-01$/.test(String(headers.traceparent))))

  const of = (message: string) => lines(gateway).find(({ msg }) => msg === message)
  for (const message of ['request', 'provisioned', 'upload-completed', 'deletion-completed'])
    t.equal(of(message)?.traceId, traceId, message)
  t.notOk('traceId' in (of('processed') ?? { traceId }), 'the poller has none')
})

t.test('exported spans contain no secret', async (t) => {
  const collector = await startCollector(t)
  const { gateway, seen, sandbox } = await setUp(t, collector)
  sandbox.knobs.faults = [{ operation: 'ingest', times: 1, status: 500, body: 'no' }]
  const { body: video } = await gateway.call('POST', '/v1/videos', { title: 'x' })
  t.equal((await gateway.call('PUT', `/v1/videos/${video.id}/content`, fakeMp4(1000))).status, 503)
  await useGateway(gateway)
  t.equal(await gateway.kill('SIGTERM'), 0)

  const exported = Buffer.concat(collector.raw).toString('latin1')
  const tokens = seen.flatMap(({ query, headers: { authorization = '' } }) => [
    ...new URLSearchParams(query).values(),
    authorization.replace(/^\w+ /, ''),
  ])
  const secrets = new Set(['in-a-query', key, sandbox.clientSecret, ...tokens].filter(Boolean))
  t.ok(secrets.size >= 6, 'tokens of the API and of upload URLs are known')
  for (const secret of secrets) t.notOk(exported.includes(secret), secret)
  const uploads = collector.spans.filter(({ name, kind }) => name === 'PUT' && kind === 'client')
  t.equal(uploads.length, 2)
  for (const { attributes } of uploads)
    t.match(attributes, { 'url.full': `${sandbox.url}/`, 'url.path': '/', 'url.query': undefined })
  t.ok(exported.includes(`${sandbox.url}/clips/`), 'spans contain the paths of the API')
})

t.test('an unreachable collector does not affect requests', async (t) => {
  const gone = await startCollector(t)
  gone.close()
  const { gateway } = await setUp(t, gone, { OTEL_EXPORTER_OTLP_TIMEOUT: '300' })
  await useGateway(gateway)
  t.equal(await gateway.kill('SIGTERM'), 0)
  t.equal(lines(gateway).find(({ msg }) => msg === 'deletion-completed')?.traceId, traceId)
  t.equal(lines(gateway).filter(({ level }) => level >= 40).length, 1, 'one line says that traces get lost')
})

t.test('a collector that rejects spans or never responds does not affect requests', async (t) => {
  for (const status of [400, 'never'] as const) {
    const collector = await startCollector(t, status)
    const { gateway } = await setUp(t, collector)
    await useGateway(gateway)
    t.equal(await gateway.kill('SIGTERM'), 0)
    t.ok(collector.raw.length > 0)
    const warnings = lines(gateway).filter(({ level }) => level >= 40)
    t.ok(warnings.length <= 1)
    if (status === 400) t.match(warnings, [{ msg: 'traces are being lost', reason: 'Bad Request' }])
  }
})

t.test('OTEL_TRACES_SAMPLER and OTEL_SERVICE_NAME take effect', async (t) => {
  const collector = await startCollector(t)
  const { gateway, seen } = await setUp(t, collector, {
    OTEL_TRACES_SAMPLER: 'parentbased_always_off',
    OTEL_SERVICE_NAME: 'gateway-of-the-test',
  })
  await useGateway(gateway)
  t.equal(await gateway.kill('SIGTERM'), 0)
  t.ok(collector.spans.length > 0)
  t.ok(
    collector.spans.every((span) => span.traceId === traceId),
    'only what the caller samples',
  )
  t.equal(collector.spans[0]?.resource['service.name'], 'gateway-of-the-test')
  t.ok(
    seen.some(({ headers }) => /-00$/.test(String(headers.traceparent))),
    'the platform gets the traceparent, not sampled',
  )
})

t.test('an invalid OTEL variable is reported in one line', async (t) => {
  const url = 'http://127.0.0.1:1'
  for (const [env, line] of [
    [{ OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' }, /OTEL_EXPORTER_OTLP_ENDPOINT: /],
    [{ OTEL_TRACES_SAMPLER: 'sometimes' }, /OTEL_TRACES_SAMPLER: expected one of always_on, /],
    [{ OTEL_TRACES_SAMPLER_ARG: '2' }, /OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1/],
  ] as [Record<string, string>, RegExp][]) {
    const failure = await startProcess(t, {
      SANDBOX_BASE_URL: url,
      DATABASE_URL: 'memory:',
      OTEL_EXPORTER_OTLP_ENDPOINT: url,
      ...env,
    }).then(
      () => 'it started',
      (error: Error) => error.message,
    )
    t.match(failure, /^ended with 1: video-gateway cannot start: [^\n]*\n$/)
    t.match(failure, line)
  }
})
