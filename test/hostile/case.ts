/** A string goes out as latin1, so that `\xff` is that byte. `$KEY`, `$ID` and `$PORT` are put in when it is sent. */
export type Piece = string | { pause: number } | { drip: string; every: number } | 'reset'

export interface HostileCase {
  name: string
  send: Piece[]
  /**
   * The statuses that are right; `close` is a connection closed without a word. A 2xx stands where the input is
   * odd but harmless, because the gateway makes nothing of the odd part.
   */
  answer: (number | 'close')[]
  /** How many answers may come at most, on one connection; 1 if not said. A smuggled request would add one. */
  answers?: number
  /** The request is not complete, and its sender just stays: runs beside the others. */
  slow?: boolean
}

type Headers = Record<string, string | number>

export const authorization = 'Bearer $KEY'

/** A whole request with its Content-Length, unless the headers say otherwise. */
export function request(method: string, path: string, headers: Headers = {}, body = ''): string {
  const all: Headers = { host: 'gateway', authorization, ...headers }
  const framed = Object.keys(all).some((name) => /^(content-length|transfer-encoding)$/i.test(name))
  if (!framed && body !== '') all['content-length'] = body.length
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body}`
}

export function json(body: string, headers: Headers = {}): string {
  return request('POST', '/v1/videos', { 'content-type': 'application/json', ...headers }, body)
}

/** A form of these raw pieces, with the boundary `X`, creating a video. */
export function form(body: string, headers: Headers = {}): string {
  return request(
    'POST',
    '/v1/videos',
    { 'content-type': 'multipart/form-data; boundary=X', ...headers },
    body,
  )
}

/** The same as content of a video that is there. */
export function contentForm(body: string, headers: Headers = {}): string {
  const type = { 'content-type': 'multipart/form-data; boundary=X' }
  return request('POST', '/v1/videos/$ID/content', { ...type, ...headers }, body)
}

export function content(body: string, headers: Headers = {}): string {
  return request('PUT', '/v1/videos/$ID/content', { 'content-type': 'video/mp4', ...headers }, body)
}

export function field(name: string, value: string): string {
  return `--X\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`
}

export const mp4 = `\0\0\0\x18ftypisom${'Z'.repeat(200)}`

export function file(disposition = 'form-data; name="file"; filename="a.mp4"', bytes = mp4): string {
  return `--X\r\nContent-Disposition: ${disposition}\r\nContent-Type: video/mp4\r\n\r\n${bytes}\r\n`
}

export const end = '--X--\r\n'
