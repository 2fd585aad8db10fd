/** A media type such as `text/plain`, or a disposition such as `form-data`, with its parameters. All names in lower case. */
export interface HeaderValue {
  value: string
  parameters: Map<string, string>
}

/** RFC 9110 §5.6.6: a token, or a quoted string. Other quotes are not closed. */
const parameter =
  /;[ \t]*(?:([!#$%&'*+.^_`|~\w-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^";]*?))[ \t]*)?(?=;|$)/gsy

/** Parses `value; name=token; name="quoted"`. @returns undefined when it is malformed or names a parameter twice */
export function parseHeaderValue(text: string): HeaderValue | undefined {
  const value = /^[^;"]*/.exec(text)?.[0] ?? ''
  const parameters = new Map<string, string>()
  parameter.lastIndex = value.length
  while (parameter.lastIndex < text.length) {
    const match = parameter.exec(text)
    if (!match) return undefined
    const [, name, quoted, token] = match
    if (name === undefined) continue
    if (parameters.has(name.toLowerCase())) return undefined
    parameters.set(name.toLowerCase(), quoted?.replace(/\\(.)/gs, '$1') ?? token ?? '')
  }
  return { value: value.trim().toLowerCase(), parameters }
}
