import { type StaticDecode, type TObject, Type, TypeGuard } from '@sinclair/typebox'
import {
  TransformDecodeCheckError,
  TransformDecodeError,
  Value,
  type ValueError,
} from '@sinclair/typebox/value'
import type { Credential } from '../auth/credentials.ts'
import { platformDefinitions } from '../platform/registry.ts'
import type { PlatformDefinition } from '../platform/tools.ts'
import type { Policy } from '../publication/gateway.ts'
import { callerVariables, externalIssuer, type IssuerConfig } from './callers.ts'
import { duration, formatMessages, retention, size, splitList } from './formats.ts'
import { type WebhookConfig, webhookVariables } from './webhooks.ts'

/** Every variable of the gateway itself; those of a platform are in its adapter. The docs are generated from this. */
export const variables = Type.Object({
  HOST: Type.String({ default: '127.0.0.1', description: 'address to listen on; `0.0.0.0` in the image' }),
  PORT: Type.Integer({
    default: 3000,
    minimum: 0,
    maximum: 65535,
    description: 'port to listen on; 0 picks a free port',
  }),
  PUBLIC_URL: Type.Optional(
    Type.String({
      format: 'base',
      description: 'base of the URLs that the gateway returns; derived from the listener by default',
    }),
  ),
  LOG_LEVEL: Type.Union(
    ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'].map((level) => Type.Literal(level)),
    {
      default: 'info',
      description: 'lowest level that is logged',
    },
  ),
  DATABASE_URL: Type.String({
    default: 'sqlite:./data/gateway.db',
    format: 'store',
    description: '`memory:`, `sqlite:PATH` or `postgres://USER:PASSWORD@HOST/DATABASE`',
  }),
  DATABASE_POOL: Type.Integer({
    default: 10,
    minimum: 1,
    maximum: 1000,
    description: 'maximum number of connections of each process to PostgreSQL',
  }),
  ...callerVariables,
  RATE_LIMIT: Type.Optional(
    Type.Integer({
      minimum: 1,
      description:
        'maximum requests per minute for each client, counted by each process; no limit by default',
    }),
  ),
  TRUSTED_PROXIES: Type.Optional(
    Type.String({
      format: 'addresses',
      description:
        'IP addresses or networks of the reverse proxies, comma-separated; the client’s address is read from their `X-Forwarded-For`',
    }),
  ),
  PLATFORM: Type.Optional(Type.String({ description: 'the platform to publish on' })),
  PLATFORMS: Type.Optional(
    Type.String({ description: 'several platforms, comma-separated; the first is the default' }),
  ),
  POLL_INITIAL_DELAY: duration('2s', 'delay from the end of the upload to the first check'),
  POLL_FACTOR: Type.Number({
    default: 1.5,
    minimum: 1,
    description: 'factor by which the delay grows after each check',
  }),
  POLL_MAX_DELAY: duration('60s', 'maximum delay between two checks'),
  POLL_JITTER: Type.Number({
    default: 0.2,
    minimum: 0,
    maximum: 1,
    description: 'share by which each delay varies at random',
  }),
  POLL_CONCURRENCY: Type.Integer({
    default: 32,
    minimum: 1,
    description: 'maximum number of concurrent checks on each platform',
  }),
  PROCESSING_TIMEOUT: duration('12h', 'time after which a video that is still processing becomes `error`'),
  METADATA_MAX_AGE: duration(
    '1h',
    'age at which info and thumbnail are fetched again when a client reads them',
  ),
  EVENT_RETENTION: retention('30d', 'time for which events, and webhook deliveries that ended, can be read'),
  DELETED_RETENTION: retention('90d', 'time for which a deleted video returns 410 instead of 404'),
  UPLOAD_MAX_BYTES: size('64GiB', 'maximum file size'),
  UPLOAD_IDLE_TIMEOUT: duration('60s', 'maximum time without data during an upload'),
  ...webhookVariables,
  SHUTDOWN_TIMEOUT: duration('30s', 'time that requests in progress have to finish after SIGTERM'),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.Optional(
    Type.String({
      format: 'url',
      description: 'OTLP/HTTP endpoint for traces; none are exported by default',
    }),
  ),
})

export interface Config {
  production: boolean
  host: string
  port: number
  publicUrl: string | undefined
  logLevel: string
  databaseUrl: string
  /** The first is used, the others still verify. */
  secrets: string[]
  /** Maximum number of connections to PostgreSQL. */
  databasePool: number
  apiKeys: Credential[]
  oauthClients: Credential[]
  oauthSigningKey: string | undefined
  externalIssuer: IssuerConfig | undefined
  /** Maximum requests per minute for each client. */
  rateLimit: number | undefined
  trustedProxies: string | undefined
  /** The first is the default; `variables` are checked against the definition's schema. */
  platforms: { definition: PlatformDefinition; variables: Record<string, unknown> }[]
  policy: Policy
  webhooks: WebhookConfig
  /** Milliseconds. */
  shutdownTimeout: number
  tracesEndpoint: string | undefined
}

/**
 * Reads the configuration from the environment.
 * @throws Error with one line that names every missing or invalid variable and what is wrong with it, never its value
 */
export function loadConfig(env: NodeJS.ProcessEnv): Config {
  const errors: string[] = []
  const values = read(variables, env, errors)
  const production = env.NODE_ENV === 'production'
  const issuer = externalIssuer(values, errors)
  const platforms = choosePlatforms(values, env, errors)
  // Outside production `server.ts` supplies both.
  if (production && !values.PLATFORM && !values.PLATFORMS) errors.unshift('PLATFORM: is missing')
  if (production && ![env.API_KEYS, env.OAUTH_CLIENTS, env.OAUTH_ISSUER].some((text) => text?.trim()))
    errors.push('API_KEYS: is missing: set it, OAUTH_CLIENTS or OAUTH_ISSUER (npm run apikey makes a key)')
  if (production && values.OAUTH_CLIENTS?.length && !values.OAUTH_SIGNING_KEY && !env.GATEWAY_SECRET?.trim())
    errors.push('GATEWAY_SECRET: is missing and OAUTH_CLIENTS require it (npm run secret makes one)')
  if (errors.length > 0) throw new Error(errors.join('; '))
  return {
    production,
    host: values.HOST,
    port: values.PORT,
    publicUrl: values.PUBLIC_URL?.replace(/\/+$/, ''),
    logLevel: values.LOG_LEVEL,
    databaseUrl: values.DATABASE_URL,
    secrets: values.GATEWAY_SECRET,
    databasePool: values.DATABASE_POOL,
    apiKeys: values.API_KEYS,
    oauthClients: values.OAUTH_CLIENTS,
    oauthSigningKey: values.OAUTH_SIGNING_KEY,
    externalIssuer: issuer,
    rateLimit: values.RATE_LIMIT,
    trustedProxies: values.TRUSTED_PROXIES,
    platforms,
    policy: {
      backoff: {
        initial: values.POLL_INITIAL_DELAY,
        factor: values.POLL_FACTOR,
        max: values.POLL_MAX_DELAY,
        jitter: values.POLL_JITTER,
      },
      pollConcurrency: values.POLL_CONCURRENCY,
      patience: {
        processing: values.PROCESSING_TIMEOUT,
        // Longer than the longest pause between two checks, shorter than a serious outage.
        gap: 15 * 60_000,
        denial: { ms: 120_000, times: 3 },
        metadata: 3_600_000,
        silence: 3 * 24 * 3_600_000,
      },
      uploadMaxBytes: values.UPLOAD_MAX_BYTES,
      uploadIdleTimeout: values.UPLOAD_IDLE_TIMEOUT,
      uploadLease: 10_000,
      claim: 60_000,
      metadataMaxAge: values.METADATA_MAX_AGE,
      metadataWait: 2_000,
      recheck: {
        interval: 24 * 3_600_000,
        retry: 15 * 60_000,
        perSecond: 4,
        missing: { checks: 4, delay: 60_000 },
      },
      eventRetention: values.EVENT_RETENTION,
      deletedRetention: values.DELETED_RETENTION,
    },
    webhooks: { networks: values.WEBHOOK_NETWORKS, ports: values.WEBHOOK_PORTS },
    shutdownTimeout: values.SHUTDOWN_TIMEOUT,
    tracesEndpoint: values.OTEL_EXPORTER_OTLP_ENDPOINT,
  }
}

type Values = StaticDecode<typeof variables>

function choosePlatforms(values: Values, env: NodeJS.ProcessEnv, errors: string[]): Config['platforms'] {
  if (values.PLATFORM && values.PLATFORMS) errors.push('PLATFORM: PLATFORMS is set as well; set one of them')
  const variable = values.PLATFORMS ? 'PLATFORMS' : 'PLATFORM'
  const given = values[variable]
  if (given === undefined) return []
  const names = splitList(given)
  if (names.length === 0) errors.push(`${variable}: is empty: name at least one platform`)
  const known = platformDefinitions.map((definition) => definition.name).join(', ')
  return [...new Set(names)].flatMap((name) => {
    const definition = platformDefinitions.find((candidate) => candidate.name === name)
    if (definition) return { definition, variables: read(definition.variables, env, errors) }
    errors.push(`${variable}: ${name} is not one of ${known}`)
    return []
  })
}

/**
 * Picks a schema's variables from the environment; an empty one counts as not set. A missing or invalid variable
 * is added to the errors and left out.
 */
function read<T extends TObject>(schema: T, env: NodeJS.ProcessEnv, errors: string[]): StaticDecode<T> {
  const entries = Object.entries(schema.properties).flatMap(([name, property]) => {
    const value = Value.Convert(property, Value.Default(property, env[name] || undefined))
    if (value === undefined && TypeGuard.IsOptional(property)) return []
    try {
      return [[name, Value.Decode(property, value)]]
    } catch (error) {
      errors.push(`${name}: ${messageOf(error)}`)
      return []
    }
  })
  return Object.fromEntries(entries)
}

function messageOf(error: unknown): string {
  if (error instanceof TransformDecodeCheckError) return validationMessage(error.error)
  if (error instanceof TransformDecodeError) return error.message
  throw error
}

/** Returns what is wrong with a variable. `missing` in its schema says how to do without it. */
function validationMessage({ value, schema, message }: ValueError): string {
  if (value === undefined) return schema.missing ? `is missing (${schema.missing})` : 'is missing'
  if (schema.format) return formatMessages[schema.format] ?? message.toLowerCase()
  if (!schema.anyOf) return message.toLowerCase()
  return `expected one of ${schema.anyOf.map((literal: { const: string }) => literal.const).join(', ')}`
}
