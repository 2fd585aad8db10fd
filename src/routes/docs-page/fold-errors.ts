interface System {
  React: {
    // biome-ignore lint/suspicious/noExplicitAny: components of Swagger UI, which has no types
    createElement(type: any, properties: object | null, ...children: unknown[]): unknown
    useState<T>(initial: T): [T, (value: T) => void]
    Fragment: unknown
  }
}
interface Response {
  code: string
  response: { get(name: string): unknown }
}

/**
 * A plugin of Swagger UI: each error of an operation is one line, which opens its example. It runs in the browser, where
 * its source is sent: it uses nothing of this module.
 */
export function foldErrors({ React: { createElement, useState, Fragment } }: System) {
  const fold = (original: unknown) => (properties: Response) => {
    const [open, setOpen] = useState(false)
    const { code, response } = properties
    if (!/^[45]/.test(code)) return createElement(original, properties)
    const text = String(response.get('description') ?? '').replaceAll('`', '')
    const button = createElement(
      'button',
      { type: 'button', 'aria-expanded': open, onClick: () => setOpen(!open) },
      text,
    )
    const row = createElement(
      'tr',
      { className: 'response-folded', 'data-code': code, 'data-open': open },
      createElement('td', { className: 'response-col_status' }, code),
      createElement('td', { className: 'response-col_description' }, button),
    )
    return createElement(Fragment, null, row, open ? createElement(original, properties) : null)
  }
  return { wrapComponents: { response: fold } }
}
