import { isIP } from 'node:net'
import { FormatRegistry, Type } from '@sinclair/typebox'
import ms from 'ms'

/** The message for each format. */
export const formatMessages: Record<string, string> = {
  url: 'expected a URL that begins with http:// or https://',
  base: 'expected a URL that begins with http:// or https://, without ? and #',
  addresses: 'expected IP addresses or networks such as 10.0.0.0/8, comma-separated',
  store: 'expected memory:, sqlite:PATH or postgres://USER:PASSWORD@HOST/DATABASE',
}

const isUrl = (text: string) => /^https?:\/\//.test(text) && URL.canParse(text)
FormatRegistry.Set('url', isUrl)
FormatRegistry.Set('base', (text) => isUrl(text) && !/[?#]/.test(text))
FormatRegistry.Set('addresses', (text) => text.split(',').every((part) => isAddress(part.trim())))
FormatRegistry.Set(
  'store',
  (text) =>
    text === 'memory:' ||
    /^sqlite:./.test(text) ||
    // Host, user and database may come from the environment: libpq has variables for all of them.
    (/^postgres(ql)?:\/\//.test(text) && URL.canParse(text)),
)

/** Splits a comma-separated text; white space around the parts and empty parts are ignored. */
export function splitList(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
}

/** A comma-separated text, decoded to its parts. */
export function list(defaultValue: string, description: string) {
  return Type.Transform(Type.String({ default: defaultValue, description }))
    .Decode(splitList)
    .Encode(String)
}

const dayMs = 24 * 3_600_000

/** A duration as text, decoded to milliseconds. Node's timers are limited to 24.8 days. */
export function duration(defaultValue: string, description: string) {
  return boundedDuration(defaultValue, description, 24)
}

/** A duration as text, decoded to milliseconds; it may be longer because no timer is set for it. */
export function retention(defaultValue: string, description: string) {
  return boundedDuration(defaultValue, description, 3_650)
}

function boundedDuration(defaultValue: string, description: string, mostDays: number) {
  return Type.Transform(Type.String({ default: defaultValue, description }))
    .Decode((text) => {
      const value = /^[\d.]+ ?(ms|s|m|h|d)$/.test(text) ? ms(text as ms.StringValue) : undefined
      if (value === undefined || !(value > 0))
        throw new Error('expected a duration such as 500ms, 2s, 5m or 12h')
      if (value > mostDays * dayMs) throw new Error(`must be at most ${mostDays}d`)
      return value
    })
    .Encode(String)
}

/** A size as text, decoded to bytes. */
export function size(defaultValue: string, description: string) {
  const units: Record<string, number> = {
    '': 1,
    B: 1,
    KiB: 2 ** 10,
    MiB: 2 ** 20,
    GiB: 2 ** 30,
    TiB: 2 ** 40,
  }
  return Type.Transform(Type.String({ default: defaultValue, description }))
    .Decode((text) => {
      const [, number, unit] = /^(\d+(?:\.\d+)?) ?([KMGT]iB|B|)$/.exec(text) ?? []
      if (number === undefined || unit === undefined)
        throw new Error('expected a size such as 1048576, 500MiB or 64GiB')
      return Math.floor(Number(number) * (units[unit] ?? 1))
    })
    .Encode(String)
}

/** Whether a text is an IP address, or a network such as `10.0.0.0/8`. */
export function isAddress(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/')
  const longest = { 0: -1, 4: 32, 6: 128 }[isIP(address)] ?? -1
  return (
    longest > 0 &&
    rest.length === 0 &&
    (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= longest))
  )
}
