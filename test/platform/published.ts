import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { Ajv2019 } from 'ajv/dist/2019.js'
import { parse } from 'yaml'

export type Published = NonNullable<ReturnType<typeof publishedDocument>>

interface Operation {
  requestBody?: { content: Record<string, unknown> }
  responses: Record<string, unknown>
}
interface Parameter {
  name: string
  in: string
  required?: boolean
}

/**
 * The newest OpenAPI 3.0 document `<vendor>*.yaml` in the folder that VENDOR_DOCUMENTS names, to hold an exchange
 * against: each method tells what goes against the document. Undefined without that variable.
 * @param known how a finding begins that is none, where the document is wrong or silent; and why that is so
 */
export function publishedDocument(vendor: string, known: Record<string, string>) {
  const folder = process.env.VENDOR_DOCUMENTS
  if (!folder) return undefined
  const file = readdirSync(folder)
    .sort()
    .findLast((name) => name.startsWith(vendor) && name.endsWith('.yaml'))
  if (!file) throw new Error(`VENDOR_DOCUMENTS: there is no ${vendor}*.yaml`)
  const document = asJsonSchema(parse(readFileSync(join(folder, file), 'utf8')))
  const lenient = { strict: false, validateSchema: false, validateFormats: false, unicodeRegExp: false }
  const ajv = new Ajv2019({ ...lenient, allErrors: true })
  ajv.addSchema(document, 'document')
  const templates = Object.keys(document.paths as object)
    .sort((one, other) => one.split('{').length - other.split('{').length)
    .map((path) => ({ path, pattern: new RegExp(`^${path.replace(/{[^}]+}/g, '[^/]+')}$`) }))

  const at = <T>(...keys: string[]) =>
    keys.reduce<unknown>((node, key) => (node as Record<string, unknown> | undefined)?.[key], document) as T

  function find(method: string, { pathname }: URL) {
    const path = templates.find(({ pattern }) => pattern.test(pathname))?.path
    const keys = ['paths', path ?? '', method.toLowerCase()]
    return { keys, operation: at<Operation | undefined>(...keys), name: `${method} ${path ?? pathname}` }
  }

  function misfits(keys: string[], value: unknown): string[] {
    const validate = ajv.getSchema(`document#${pointer(keys)}`)
    if (!validate || validate(value)) return []
    return validate.errors!.map(({ instancePath, message, params }) => {
      const stranger: string | undefined = params.unevaluatedProperty
      return stranger ? ` ${instancePath}/${stranger} is not described` : ` ${instancePath} ${message}`
    })
  }

  const report = (name: string, findings: string[]) =>
    findings
      .map((finding) => `${name}${finding}`)
      .filter((finding) => !Object.keys(known).some((start) => finding.startsWith(start)))

  return {
    request(method: string, url: URL, headers: IncomingHttpHeaders) {
      const { name, operation, keys } = find(method, url)
      if (!operation) return report(name, [' is not described'])
      const lists = [keys.slice(0, 2), keys].map((owner) => [...owner, 'parameters'])
      const parameters = lists.flatMap((list) =>
        (at<{ $ref?: string }[] | undefined>(...list) ?? []).map(({ $ref }, index) => {
          const where = $ref?.split('/').slice(1) ?? [...list, String(index)]
          return { where, ...at<Parameter>(...where) }
        }),
      )
      const findings = parameters.flatMap(({ where, name, in: place, required }) => {
        if (place !== 'query' && place !== 'header') return []
        const text = place === 'query' ? url.searchParams.get(name) : headers[name.toLowerCase()]
        if (text === null || text === undefined) return required ? [` lacks ${place} ${name}`] : []
        const schema = [...where, 'schema']
        const number = /^(integer|number)$/.test(at<{ type?: string }>(...schema).type ?? '')
        return misfits(schema, number ? Number(text) : text).map((misfit) => ` ${place} ${name}${misfit}`)
      })
      const queries = parameters.filter((parameter) => parameter.in === 'query').map((query) => query.name)
      const strangers = [...url.searchParams.keys()].filter((key) => !queries.includes(key.split('[')[0]!))
      return report(name, [...findings, ...strangers.map((key) => ` query ${key} is not described`)])
    },

    /** Of JSON and forms; nothing is said of other media types than whether they are taken. */
    body(method: string, url: URL, type: string | undefined, bytes: Buffer) {
      const { name, operation, keys } = find(method, url)
      const media = type?.split(';')[0] ?? ''
      if (!operation || bytes.length === 0) return []
      if (!operation.requestBody?.content[media]) return report(name, [` takes no ${media}`])
      const schema = [...keys, 'requestBody', 'content', media, 'schema']
      if (media === 'application/json') return report(name, misfits(schema, JSON.parse(String(bytes))))
      if (media !== 'application/x-www-form-urlencoded') return []
      return report(name, misfits(schema, Object.fromEntries(new URLSearchParams(String(bytes)))))
    },

    answer(method: string, url: URL, status: number, body: unknown) {
      const { name, operation, keys } = find(method, url)
      // What comes of a bad token is said once for all, if at all.
      if (!operation || status === 401) return []
      if (!operation.responses[status]) return report(name, [` does not answer ${status}`])
      const schema = [...keys, 'responses', String(status), 'content', 'application/json', 'schema']
      return report(`${name} ${status}`, misfits(schema, body))
    },
  }
}

/**
 * `nullable` spelled out, and no field in an object that is not described. Patterns between slashes are left out: that
 * is no notation of OpenAPI's, and PeerTube's contradict the lengths beside them.
 */
function asJsonSchema(document: unknown): Record<string, unknown> {
  const composed = /^(allOf|oneOf|anyOf)$/
  /** Schemas that others add fields to; they cannot be closed themselves. */
  const parts = new Set<string | undefined>()
  JSON.stringify(document, (key, value) => {
    if (composed.test(key)) for (const { $ref } of value as { $ref?: string }[]) parts.add($ref?.slice(1))
    return value
  })

  function convert(node: unknown, keys: string[]): unknown {
    if (Array.isArray(node)) return node.map((item, index) => convert(item, [...keys, String(index)]))
    if (typeof node !== 'object' || node === null) return node
    const entries = Object.entries(node).map(([key, value]) => [key, convert(value, [...keys, key])])
    const schema: Record<string, unknown> = Object.fromEntries(entries)
    const part = parts.has(pointer(keys)) || composed.test(keys.at(-2) ?? '')
    if (!part && (schema.properties || schema.allOf)) schema.unevaluatedProperties ??= false
    if (typeof schema.pattern === 'string' && schema.pattern.startsWith('/')) delete schema.pattern
    if (schema.nullable !== true) return schema
    delete schema.nullable
    return { anyOf: [schema, { type: 'null' }] }
  }
  return convert(document, []) as Record<string, unknown>
}

function pointer(keys: string[]): string {
  return keys.map((key) => `/${encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))}`).join('')
}
