/** The bytes of the one part of a multipart body (RFC 7578), when it is a file named `file`. */
export function fileOf(body: Buffer, contentType: string): Buffer | undefined {
  const boundary = /^multipart\/form-data; boundary="?([^";]+)"?$/.exec(contentType)?.[1]
  if (!boundary) return undefined
  const end = body.lastIndexOf(`\r\n--${boundary}--`)
  const head = body.indexOf('\r\n\r\n')
  const start = head + 4
  const fields = body.subarray(0, head).toString()
  const proper =
    fields.startsWith(`--${boundary}\r\n`) && /form-data; name="file"; filename="[^"]+"/.test(fields)
  if (!proper || head < 0 || end < start || body.indexOf(`--${boundary}\r\n`, start) >= 0) return undefined
  return body.subarray(start, end)
}
