/**
 * Number of bytes that senders write after the closing delimiter of a form. Most send one CRLF, some none or two. The
 * boundary identifies many senders; these were captured from the clients themselves, see `test/support/form-senders.ts`.
 */
const knownEndings: [sender: string, boundary: RegExp, bytes: number[]][] = [
  // Versions differ only in this: undici up to 6.21.2 (Node 18, 20 to 20.19, 22 to 22.20) sends none, later versions send
  // one CRLF.
  ['fetch of Node (undici)', /^-{4}formdata-undici-\d{12}$/, [2, 0]],
  ['needle', /^-+NODENEEDLEHTTPCLIENT/, [0]],
  ['node-fetch 3, formdata-polyfill', /^(?=.{32}$)-{4,}\d+$/, [0]],
  ['got, openai and others with form-data-encoder', /^form-data-(boundary|encoder)-[0-9a-z]{16}$/, [4]],
  ['form-data: axios, superagent, node-fetch 2, got', /^-{26}([0-9a-f]{24}|\d{24})$/, [2]],
  ['axios', /^axios-[\d.]+-boundary-/, [2]],
  ['curl, PHP', /^-{24}[0-9A-Za-z]{16,22}$/, [2]],
  ['Python: requests, urllib3, httpx, aiohttp', /^[0-9a-f]{32}$/, [2]],
  ['Go', /^[0-9a-f]{60}$/, [2]],
  // The 15 characters of the one that examples copy from each other do not match.
  ['Chromium, Safari', /^-{4}WebKitFormBoundary[0-9A-Za-z]{16}$/, [2]],
  ['Firefox', /^-{4}geckoformboundary[0-9a-f]+$|^-{27,29}\d{15,}$/, [2]],
]

/** Returns the numbers of bytes that may follow the closing delimiter, the most likely first; only one if it is known. */
export function senderEndings(boundary: string): number[] {
  const known = knownEndings.find(([, pattern]) => pattern.test(boundary))
  return known?.[2] ?? [2, 0, 4]
}
