import { context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { setGlobalErrorHandler, W3CTraceContextPropagator } from '@opentelemetry/core'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { UndiciInstrumentation, type UndiciRequest } from '@opentelemetry/instrumentation-undici'
import {
  defaultResource,
  detectResources,
  resourceAttributesEnvDetector,
  resourceFromAttributes,
  serviceNameEnvDetector,
} from '@opentelemetry/resources'
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import { version } from '../config/version.ts'
import type { Log } from '../platform/tools.ts'
import { harmlessPath } from './redaction.ts'
import type { TraceOf } from './tracing.ts'

/** Between two lines about traces that get lost. Milliseconds. */
const reportIntervalMs = 10 * 60_000
/** Maximum time that the exit of the process waits for a collector that does not respond, in ms. */
const flushTimeoutMs = 3_000

/**
 * Makes spans of the requests and of all HTTP calls, and sends them by OTLP over HTTP to where the environment says
 * (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). Loaded only when it does.
 * @returns what sends the last spans and stops
 * @throws Error with one line that names the variable and what is wrong
 */
export function startTelemetry(log: Log): () => Promise<void> {
  let reportedAt = Number.NEGATIVE_INFINITY
  const reportLoss = (error: unknown) => {
    if (performance.now() - reportedAt < reportIntervalMs) return
    reportedAt = performance.now()
    log.warn({ reason: error instanceof Error ? error.message : String(error) }, 'traces are being lost')
  }
  setGlobalErrorHandler(reportLoss)

  const provider = new TracerProvider({
    resource: defaultResource()
      .merge(resourceFromAttributes({ 'service.name': 'video-gateway', 'service.version': version }))
      .merge(detectResources({ detectors: [resourceAttributesEnvDetector, serviceNameEnvDetector] })),
    sampler: samplerOf(process.env),
    spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
  })
  trace.setGlobalTracerProvider(provider)
  context.setGlobalContextManager(new AsyncLocalStorageContextManager())
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  new UndiciInstrumentation({ startSpanHook: redactUrl })

  return async () => {
    const flushed = provider.shutdown().catch(reportLoss)
    await Promise.race([flushed, new Promise((resolve) => setTimeout(resolve, flushTimeoutMs).unref())])
  }
}

/** Begins the span of a request, below the caller's if it named one; probes and scrapes have none. */
export const startRequestSpan: TraceOf = (
  { raw, method, url, protocol, routeOptions: { url: route } },
  reply,
) => {
  if (route && /^\/(health|metrics)\b/.test(route)) return undefined
  const parent = propagation.extract(ROOT_CONTEXT, raw.headers)
  const attributes = {
    'http.request.method': method,
    'url.scheme': protocol,
    'url.path': harmlessPath(url),
    'http.route': route,
  }
  const tracer = trace.getTracer('video-gateway', version)
  const span = tracer.startSpan(
    route ? `${method} ${route}` : method,
    { kind: SpanKind.SERVER, attributes },
    parent,
  )
  reply.raw.once('close', () => {
    const { statusCode, headersSent } = reply.raw
    if (headersSent) span.setAttribute('http.response.status_code', statusCode)
    if (headersSent && statusCode >= 500) {
      span.setAttribute('error.type', String(statusCode))
      span.setStatus({ code: SpanStatusCode.ERROR })
    }
    span.end()
  })
  return {
    traceId: span.spanContext().traceId,
    // The instrumentation adds them, with the span of the call for a parent.
    headers: {},
    enter: (next) => context.with(trace.setSpan(parent, span), next),
  }
}

/**
 * Returns the part of a called URL that may be exported. Queries contain signatures and tokens. A URL that is called
 * without the gateway's credentials, such as an upload URL, is a secret itself.
 */
function redactUrl({ origin, path, headers }: UndiciRequest) {
  const url = new URL(path, origin)
  const names = [headers].flat(2).map((text) => text.toLowerCase())
  if (!names.includes('authorization')) url.pathname = '/'
  return { 'url.full': url.origin + url.pathname, 'url.path': url.pathname, 'url.query': undefined }
}

/** The samplers that need no further configuration, by the names of the specification. */
function samplerOf({ OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG }: NodeJS.ProcessEnv): Sampler {
  const name = OTEL_TRACES_SAMPLER || 'parentbased_always_on'
  const ratio = Number(OTEL_TRACES_SAMPLER_ARG || 1)
  if (!(ratio >= 0 && ratio <= 1)) throw new Error('OTEL_TRACES_SAMPLER_ARG: expected a number from 0 to 1')
  const roots: Record<string, Sampler> = {
    always_on: new AlwaysOnSampler(),
    always_off: new AlwaysOffSampler(),
    traceidratio: new TraceIdRatioBasedSampler(ratio),
  }
  const root = roots[name.replace(/^parentbased_/, '')]
  if (!root) {
    const names = Object.keys(roots).flatMap((each) => [each, `parentbased_${each}`])
    throw new Error(`OTEL_TRACES_SAMPLER: expected one of ${names.join(', ')}`)
  }
  return name.startsWith('parentbased_') ? new ParentBasedSampler({ root }) : root
}
