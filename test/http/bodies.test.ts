import { gzipSync } from 'node:zlib'
import t from 'tap'
import { fakeMp4, form, startGateway } from '../support/gateway.ts'
import { rawConnection, requestHead } from '../support/raw.ts'

const json = { 'content-type': 'application/json' }
const video = JSON.stringify({ title: 'Köln' })
const utf16 = Buffer.from(video, 'utf16le')
const latin1 = Buffer.from(video, 'latin1')
const text = (body: string) => Buffer.from(body)
const boundary = 'multipart/form-data; boundary=X'
const fileFirst = new FormData()
fileFirst.append('file', new Blob([fakeMp4(100) as Uint8Array<ArrayBuffer>], { type: 'video/mp4' }), 'v.mp4')
fileFirst.append('title', 'x')

interface Case {
  name: string
  method?: string
  path?: string
  headers?: Record<string, string>
  body?: Buffer | FormData
  status: number
  /** What `detail` has to say: what was wrong, and what to send instead. */
  detail?: RegExp
}

const malformedQueries = [
  'reference=%ff',
  'reference=%',
  'reference=%zz',
  'reference=a%2',
  'reference=%c0%af',
  'reference=%ed%a0%80',
  '%ff=1',
  'limit=1&cursor=%e4',
  'reference=a+%e4+b',
]
const badMembers = [
  '"__proto__":{"stage":"ready"}',
  '"\\u005f_proto__":1',
  '"constructor":{"prototype":{"a":1}}',
]

const create: Case[] = [
  ...malformedQueries.map(
    (query): Case => ({
      name: `the query ${query}`,
      method: 'GET',
      path: `/v1/videos?${query}`,
      status: 400,
      detail: /percent-encoded UTF-8/,
    }),
  ),
  ...['reference=100%25', 'reference=a+b', 'reference=K%C3%B6ln', 'reference=%00', ''].map(
    (query): Case => ({
      name: `the query ${query}`,
      method: 'GET',
      path: `/v1/videos?${query}`,
      status: 200,
    }),
  ),
  ...badMembers.map(
    (member): Case => ({
      name: `the member ${member}`,
      headers: json,
      body: text(`{"title":"x",${member}}`),
      status: 400,
      detail: /must not have a member `__proto__`/,
    }),
  ),
  {
    name: 'a member constructor',
    headers: json,
    body: text('{"title":"x","constructor":1}'),
    status: 400,
    detail: /\/constructor is not a known field/,
  },
  {
    name: 'a forbidden member in malformed JSON',
    headers: json,
    body: text('{"__proto__":1'),
    status: 400,
    detail: /not valid JSON/,
  },
  {
    name: 'JSON that is too long',
    headers: json,
    body: text(JSON.stringify({ title: 'x'.repeat(200_000) })),
    status: 413,
    detail: /at most 131072 bytes/,
  },
  ...['PATCH', 'PUT', 'DELETE'].map(
    (method): Case => ({
      name: `${method} of the list`,
      method,
      path: '/v1/videos',
      status: 405,
      detail: /supports GET, HEAD, POST\./,
    }),
  ),
  { name: 'POST of a video', path: '/v1/videos/none', status: 405, detail: /supports GET, HEAD, DELETE\./ },
  { name: 'POST of a page', path: '/health/live', status: 405, detail: /supports GET, HEAD\./ },
  {
    name: 'JSON in gzip',
    headers: { ...json, 'content-encoding': 'gzip' },
    body: gzipSync(video),
    status: 415,
    detail: /uncompressed/,
  },
  {
    name: 'JSON in br',
    headers: { ...json, 'content-encoding': 'br' },
    body: text(video),
    status: 415,
    detail: /uncompressed/,
  },
  {
    name: 'JSON in two codings',
    headers: { ...json, 'content-encoding': 'identity, gzip' },
    body: text(video),
    status: 415,
    detail: /uncompressed/,
  },
  {
    name: 'JSON as it is, said',
    headers: { ...json, 'content-encoding': 'Identity' },
    body: text(video),
    status: 201,
  },
  {
    name: 'JSON in utf-16',
    headers: { 'content-type': 'application/json; charset=utf-16' },
    body: utf16,
    status: 415,
    detail: /UTF-8/,
  },
  {
    name: 'JSON in iso-8859-1',
    headers: { 'content-type': 'application/json;charset=ISO-8859-1' },
    body: latin1,
    status: 415,
    detail: /UTF-8/,
  },
  {
    name: 'JSON in utf-8',
    headers: { 'content-type': 'application/json; charset="UTF-8"' },
    body: text(video),
    status: 201,
  },
  {
    name: 'JSON in latin1 without a word',
    headers: json,
    body: latin1,
    status: 400,
    detail: /not valid UTF-8/,
  },
  {
    name: 'JSON in utf-16 without a word',
    headers: json,
    body: utf16,
    status: 400,
    detail: /not valid JSON|UTF-8/,
  },
  {
    name: 'JSON with a C1 control',
    headers: json,
    body: text('{"title":"a\u009bb"}'),
    status: 400,
    detail: /\/title must be one line of text/,
  },
  { name: 'no JSON', headers: json, body: text('{"title":'), status: 400, detail: /not valid JSON/ },
  { name: 'no title', headers: json, body: text('{}'), status: 400, detail: /\/title is required/ },
  {
    name: 'a title that is too long',
    headers: json,
    body: text(`{"title":"${'x'.repeat(201)}"}`),
    status: 400,
    detail: /\/title must have at most 200 characters/,
  },
  {
    name: 'an empty title',
    headers: json,
    body: text('{"title":"  "}'),
    status: 400,
    detail: /\/title must not be empty/,
  },
  {
    name: 'a number as title',
    headers: json,
    body: text('{"title":7}'),
    status: 400,
    detail: /\/title must be a string/,
  },
  {
    name: 'a field too many',
    headers: json,
    body: text('{"title":"x","color":1}'),
    status: 400,
    detail: /\/color is not a known field/,
  },
  { name: 'a list', headers: json, body: text('[]'), status: 400, detail: /must be a JSON object/ },
  {
    name: 'XML',
    headers: { 'content-type': 'application/xml' },
    body: text('<v/>'),
    status: 415,
    detail: /Send Content-Type: application\/json or multipart\/form-data/,
  },
  {
    name: 'curl -d',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: text('title=x'),
    status: 415,
    detail: /application\/json/,
  },
  { name: 'a body without a type', body: text(video), status: 415, detail: /application\/json/ },
  {
    name: 'an MP4',
    headers: { 'content-type': 'video/mp4' },
    body: fakeMp4(100),
    status: 415,
    detail: /multipart\/form-data/,
  },
  {
    name: 'a form with the file first',
    body: fileFirst,
    status: 400,
    detail: /\/title is required; put the fields before the part `file`/,
  },
  {
    name: 'a form without a title',
    body: form({}, fakeMp4(100)),
    status: 400,
    detail: /\/title is required/,
  },
  {
    name: 'a form without a boundary',
    headers: { 'content-type': 'multipart/form-data' },
    body: text('--X--'),
    status: 400,
    detail: /boundary.*library/,
  },
  {
    name: 'a form with another boundary',
    headers: { 'content-type': boundary },
    body: text('--Y\r\n\r\n--Y--\r\n'),
    status: 400,
    detail: /boundary that Content-Type names/,
  },
  {
    name: 'a form without a file',
    headers: { 'content-type': boundary },
    body: text('--X\r\nContent-Disposition: form-data; name="title"\r\n\r\nx\r\n--X--\r\n'),
    status: 400,
    detail: /\/file is missing; send the video as the last part/,
  },
  {
    name: 'a form of LF',
    headers: { 'content-type': boundary },
    body: text('--X\nContent-Disposition: form-data; name="title"\n\nx\n--X--\n'),
    status: 400,
    detail: /LF.*CRLF/,
  },
  {
    name: 'a form in gzip',
    headers: { 'content-type': boundary, 'content-encoding': 'gzip' },
    body: gzipSync('--X--'),
    status: 415,
    detail: /uncompressed/,
  },
  {
    name: 'a slash too many',
    path: '/v1/videos/',
    headers: json,
    body: text(video),
    status: 404,
    detail: /ends with a slash/,
  },
  {
    name: 'two slashes too many',
    path: '/v1/videos//',
    headers: json,
    body: text(video),
    status: 404,
    detail: /ends with a slash/,
  },
  {
    name: 'a list with a slash',
    method: 'GET',
    path: '/v1/videos/',
    status: 404,
    detail: /ends with a slash/,
  },
  {
    name: 'a list with a slash and a query',
    method: 'GET',
    path: '/v1/videos/?limit=1',
    status: 404,
    detail: /ends with a slash/,
  },
  {
    name: 'a list by an unknown status',
    method: 'GET',
    path: '/v1/videos?status=done',
    status: 400,
    detail: /status must be one of pending, ready, error/,
  },
  {
    name: 'a list without an end',
    method: 'GET',
    path: '/v1/videos?limit=1000',
    status: 400,
    detail: /limit must be an integer from 1 to 200/,
  },
  {
    name: 'a list by an unknown parameter',
    method: 'GET',
    path: '/v1/videos?state=ready',
    status: 400,
    detail: /state is not a known/,
  },
]

/** Of a video without content, at `/content` of it. */
const content: Case[] = [
  { name: 'an MP4 without a type, as curl -T', body: fakeMp4(100), status: 204 },
  {
    name: 'an MP4 as octets',
    headers: { 'content-type': 'application/octet-stream' },
    body: fakeMp4(100),
    status: 204,
  },
  {
    name: 'an MP4 with parameters',
    headers: { 'content-type': 'Video/MP4; codecs="avc1"' },
    body: fakeMp4(100),
    status: 204,
  },
  {
    name: 'octets that are no MP4',
    headers: { 'content-type': 'application/octet-stream' },
    body: Buffer.alloc(100),
    status: 415,
    detail: /mp4/i,
  },
  {
    name: 'no MP4 without a type',
    body: Buffer.from('\x1aE\xdf\xa3webm, not mp4', 'latin1'),
    status: 415,
    detail: /mp4/i,
  },
  {
    name: 'another video',
    headers: { 'content-type': 'video/quicktime' },
    body: fakeMp4(100),
    status: 415,
    detail: /video\/mp4, application\/octet-stream or none/,
  },
  { name: 'an MP4 as JSON', headers: json, body: fakeMp4(100), status: 415, detail: /video\/mp4/ },
  {
    name: 'an MP4 by curl --data-binary',
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: fakeMp4(100),
    status: 415,
    detail: /video\/mp4/,
  },
  {
    name: 'an MP4 as a form',
    headers: { 'content-type': boundary },
    body: fakeMp4(100),
    status: 415,
    detail: /Send a form with POST/,
  },
  { name: 'a form', body: form({}, fakeMp4(100)), status: 415, detail: /Send a form with POST/ },
  {
    name: 'a type that is none',
    headers: { 'content-type': 'mp4' },
    body: fakeMp4(100),
    status: 415,
    detail: /video\/mp4/,
  },
  {
    name: 'in gzip',
    headers: { 'content-type': 'video/mp4', 'content-encoding': 'gzip' },
    body: gzipSync(fakeMp4(100)),
    status: 415,
    detail: /uncompressed/,
  },
  {
    name: 'an MP4 said to be in gzip',
    headers: { 'content-type': 'video/mp4', 'content-encoding': 'gzip' },
    body: fakeMp4(100),
    status: 415,
    detail: /uncompressed/,
  },
  {
    name: 'an MP4 by POST',
    method: 'POST',
    headers: { 'content-type': 'video/mp4' },
    body: fakeMp4(100),
    status: 415,
    detail: /with PUT/,
  },
  {
    name: 'an MP4 by POST without a type',
    method: 'POST',
    body: fakeMp4(100),
    status: 415,
    detail: /with PUT/,
  },
  { name: 'a form by POST', method: 'POST', body: form({}, fakeMp4(100)), status: 204 },
  {
    name: 'a form of octets',
    method: 'POST',
    body: form({}, fakeMp4(100), 'application/octet-stream'),
    status: 204,
  },
  {
    name: 'a form of octets that are no MP4',
    method: 'POST',
    body: form({}, Buffer.alloc(100), 'application/octet-stream'),
    status: 415,
    detail: /mp4/i,
  },
  {
    name: 'a form with another video',
    method: 'POST',
    body: form({}, fakeMp4(100), 'video/webm'),
    status: 415,
    detail: /video\/mp4, application\/octet-stream or none/,
  },
  {
    name: 'a form with another field',
    method: 'POST',
    body: form({ title: 'x' }, fakeMp4(100)),
    status: 400,
    detail: /\/title is not a field of this form/,
  },
]

t.test('each kind of body has its documented response', async (t) => {
  const gateway = await startGateway(t)
  for (const [cases, prefix] of [
    [create, ''],
    [content, 'content: '],
  ] as const)
    for (const { name, method, path, headers = {}, body, status, detail } of cases) {
      const id = cases === content ? (await gateway.create()).id : ''
      const answer = await gateway.call(
        method ?? (cases === content ? 'PUT' : 'POST'),
        path ?? (cases === content ? `/v1/videos/${id}/content` : '/v1/videos'),
        { headers, ...(body && { body: body as never }) },
      )
      t.equal(answer.status, status, `${prefix}${name}: ${JSON.stringify(answer.body)}`)
      if (detail) t.match(answer.body.detail, detail, `${prefix}${name}`)
    }
})

t.test('the Content-Type of a request without a body is ignored', async (t) => {
  const gateway = await startGateway(t)
  for (const type of [
    'application/json',
    'text/plain',
    'application/x-www-form-urlencoded',
    'video/mp4',
    boundary,
    'x',
  ])
    for (const length of [{ 'content-length': '0' }, {}])
      for (const coding of [{ 'content-encoding': 'gzip' }, {}]) {
        const { id } = await gateway.create()
        const ask = async (method: string) => {
          const connection = await rawConnection(gateway.url)
          const headers = {
            authorization: 'Bearer vgk_test',
            'content-type': type,
            ...length,
            ...coding,
            connection: 'close',
          }
          connection.write(requestHead(method, `/v1/videos/${id}`, headers))
          return (await connection.rest()).slice(9, 12)
        }
        const name = JSON.stringify({ type, ...length, ...coding })
        t.equal(await ask('GET'), '200', name)
        t.equal(await ask('HEAD'), '200', name)
        t.equal(await ask('DELETE'), '204', name)
      }
})

t.test('a form field is decoded by its charset', async (t) => {
  const gateway = await startGateway(t)
  for (const [headers, bytes] of [
    ['', Buffer.from('Köln “x”')],
    ['Content-Type: text/plain; charset=UTF-8\r\n', Buffer.from('Köln “x”')],
    ['Content-Type: text/plain; charset=windows-1252\r\n', Buffer.from('K\xf6ln \x93x\x94', 'latin1')],
    ['Content-Type: text/plain; charset=ISO-8859-1\r\n', Buffer.from('K\xf6ln \x93x\x94', 'latin1')],
    ['Content-Type: text/plain; charset=utf-16le\r\n', Buffer.from('Köln “x”', 'utf16le')],
  ] as const) {
    const body = Buffer.concat([
      Buffer.from(`--X\r\n${headers}Content-Disposition: form-data; name="title"\r\n\r\n`),
      bytes,
      Buffer.from('\r\n--X\r\nContent-Disposition: form-data; name="file"\r\n\r\n'),
      fakeMp4(100),
      Buffer.from('\r\n--X--\r\n'),
    ])
    const answer = await gateway.call('POST', '/v1/videos', { body, headers: { 'content-type': boundary } })
    t.match(answer, { status: 201, body: { title: 'Köln “x”' } }, headers)
  }
})
