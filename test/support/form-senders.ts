/** How a client sends a form: what differs between clients, byte for byte. */
export interface FormSender {
  name: string
  boundary: string
  /** The header lines of a field and of the file's part. */
  field(name: string): string[]
  file: string[]
  /** What follows the closing delimiter. */
  end: string
  /** When the boundary is in quotes in Content-Type. */
  quoted?: boolean
}

const disposition = 'Content-Disposition: form-data; name="file"; filename="v.mp4"'
const plain = (name: string) => [`Content-Disposition: form-data; name="${name}"`]
const usual = { field: plain, file: [disposition, 'Content-Type: video/mp4'], end: '\r\n' }
/** Stands for the length of the part, in bytes. */
export const partLength = '$LENGTH'

/**
 * What clients send. Those marked `source` are taken from the client's source code, the others were captured from the
 * client itself, with a field and a file.
 */
export const formSenders: FormSender[] = [
  // Captured from undici 5.28.4, 6.0.0, 6.13.0, 6.19.8, 6.20.0, 6.21.0 to 6.21.2 and Node 18.20.8, 20.5.1 to 20.19.5,
  // 22.4.0 to 22.20.0. But for the boundary's digits and the end, the requests of all versions are the same.
  { ...usual, name: 'undici to 6.21.2', boundary: '----formdata-undici-014870618590', end: '' },
  // Captured from undici 6.21.3, 6.22, 7.0.0, 8.0.0 and Node 20.20.2, 22.21.1, 26.
  { ...usual, name: 'undici from 6.21.3', boundary: '----formdata-undici-095012131726' },
  {
    ...usual,
    name: 'needle 3',
    boundary: '--------------------NODENEEDLEHTTPCLIENT',
    file: [disposition, 'Content-Transfer-Encoding: binary', 'Content-Type: video/mp4'],
    end: '',
  },
  // node-fetch 3.3 and formdata-polyfill.
  { ...usual, name: 'node-fetch 3', boundary: '----3517940084407080558919410003', end: '' },
  // form-data-encoder 1 to 3: got 12, with the FormData of Node and of formdata-node.
  { ...usual, name: 'got 12', boundary: 'form-data-boundary-q4re4yhg37z4sc8f', end: '\r\n\r\n' },
  // form-data-encoder 4: got 14.
  { ...usual, name: 'got 14', boundary: 'form-data-encoder-duhwmgd641t68v16', end: '\r\n\r\n' },
  // got 11 and 12, axios, superagent, request, node-fetch 2: all with the package form-data.
  { ...usual, name: 'form-data 4', boundary: '--------------------------5ae9bca1d522d04c66084dab' },
  { ...usual, name: 'axios 1', boundary: 'axios-1.21.1-boundary-Z0ovQFaoPeHlvrxUGyo3IY_zo' },
  { ...usual, name: 'curl 7.88', boundary: '------------------------9143b971466e6e64' },
  { ...usual, name: 'Python requests and urllib3', boundary: '8e6f94b364e66748431c2088915f16ec' },
  { ...usual, name: 'httpx 0.23', boundary: 'e7708eab76e924fc3f20b12ff4c963a8' },
  {
    ...usual,
    name: 'aiohttp 3.8',
    boundary: 'ab891f0a2b3f4f0d954a7161b06ba166',
    field: (name) => ['Content-Type: text/plain; charset=utf-8', ...plain(name)],
    file: ['Content-Type: video/mp4', disposition],
  },
  // Chromium 156; Safari has the same.
  { ...usual, name: 'Chromium, Safari', boundary: '----WebKitFormBoundarySpxd70owdA65Xs26' },
  // source: FormData of Firefox.
  { ...usual, name: 'Firefox', boundary: '---------------------------9051914041544843365972754266' },
  { ...usual, name: 'Firefox from 134', boundary: '----geckoformboundary3f1ab2c49e5d6a7b8c9d0e1f2a3b4c5d' },
  // net/http of Ruby 3.1.
  { ...usual, name: 'Ruby', boundary: 'JDRofHItF8GF8CgX0_Rkp7Eg5j6XDbBvd9Liqe0pMG6IeGDRwOXslA' },
  // HTTP::Request::Common of libwww-perl 6.68: always this boundary, unless it occurs in the file.
  { ...usual, name: 'Perl LWP', boundary: 'xYzZY' },
  // PHP 8.2, CURLFile.
  { ...usual, name: 'PHP curl', boundary: '------------------------294d236ea5a57013' },
  // mime/multipart of Go 1.19, CreateFormFile.
  {
    ...usual,
    name: 'Go',
    boundary: 'b5ab3ab8d4e2f1a09c87b6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7',
    file: [disposition, 'Content-Type: application/octet-stream'],
  },
  // OkHttp 3.13; 4 has the same.
  {
    ...usual,
    name: 'OkHttp',
    boundary: '6f1f2a34-8f11-4f0e-bb1e-5d0f6f4b7a2c',
    field: (name) => [...plain(name), `Content-Length: ${partLength}`],
    file: [disposition, 'Content-Type: video/mp4', `Content-Length: ${partLength}`],
  },
  // source: FormHttpMessageConverter of Spring.
  {
    ...usual,
    name: 'Spring',
    boundary: 'yOKC9AfY7UCpVNGb0T1GsL6Gq4oVYh3d',
    field: (name) => [
      ...plain(name),
      'Content-Type: text/plain;charset=UTF-8',
      `Content-Length: ${partLength}`,
    ],
    file: [disposition, 'Content-Type: video/mp4', `Content-Length: ${partLength}`],
  },
  // MultipartEntityBuilder of Apache HttpClient 4.5.14, whose fields are in ISO-8859-1 by default.
  {
    ...usual,
    name: 'Apache HttpClient 4',
    boundary: 'gXmMEzzWZFfBSg2CnYj0e7pV4Rq3',
    field: (name) => [
      ...plain(name),
      'Content-Type: text/plain; charset=ISO-8859-1',
      'Content-Transfer-Encoding: 8bit',
    ],
    file: [disposition, 'Content-Type: video/mp4', 'Content-Transfer-Encoding: binary'],
  },
  {
    ...usual,
    name: 'Apache HttpClient 5.2',
    boundary: 'rZBIRMPA7fMdWnXlOPPDzEaoKTlqfgd',
    field: (name) => [...plain(name), 'Content-Type: text/plain; charset=ISO-8859-1'],
  },
  // source: MultipartFormDataContent of .NET.
  {
    ...usual,
    name: '.NET HttpClient',
    boundary: '0a1f7b9c-5c1e-4a52-9d7e-1e2f3a4b5c6d',
    quoted: true,
    field: (name) => [
      'Content-Type: text/plain; charset=utf-8',
      `Content-Disposition: form-data; name=${name}`,
    ],
    file: ["Content-Disposition: form-data; name=file; filename=v.mp4; filename*=utf-8''v.mp4"],
  },
  // source: MultipartStream of guzzlehttp/psr7.
  {
    ...usual,
    name: 'PHP Guzzle',
    boundary: '3f1ab2c49e5d6a7b8c9d0e1f2a3b4c5d6e7f8a9b',
    field: (name) => [...plain(name), `Content-Length: ${partLength}`],
    file: [disposition, `Content-Length: ${partLength}`, 'Content-Type: video/mp4'],
  },
]

/** Forms that programs put together themselves: nothing in them shows how they end. */
export const homemadeForms: FormSender[] = [
  ['no line break', ''],
  ['one line break', '\r\n'],
  ['two line breaks', '\r\n\r\n'],
  ['padding', '  '],
  ['padding and a line break', '\t\r\n'],
].map(([name, end]) => ({
  ...usual,
  name: `${name}, own boundary`,
  // Many examples contain it. It is one character shorter than Chromium's.
  boundary: '----WebKitFormBoundary7MA4YWxkTrZu0gW',
  end: end as string,
}))

/** A form as the sender would send it. */
export function formOf(sender: FormSender, fields: Record<string, string>, file: Buffer) {
  const delimiter = `--${sender.boundary}`
  const part = (headers: string[], bytes: Buffer) =>
    Buffer.concat([
      Buffer.from(
        `${delimiter}\r\n${headers.join('\r\n').replace(partLength, String(bytes.length))}\r\n\r\n`,
      ),
      bytes,
      Buffer.from('\r\n'),
    ])
  const body = Buffer.concat([
    ...Object.entries(fields).map(([name, value]) => part(sender.field(name), Buffer.from(value))),
    part(sender.file, file),
    Buffer.from(`${delimiter}--${sender.end}`),
  ])
  const boundary = sender.quoted ? `"${sender.boundary}"` : sender.boundary
  return { body, type: `multipart/form-data; boundary=${boundary}` }
}
