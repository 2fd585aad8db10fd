import { FormatRegistry, type TSchema, Type } from '@sinclair/typebox'

export const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
export const time = (description: string) => Type.String({ format: 'date-time', description })

/** A replacement character is what is left of bytes that were no UTF-8. */
const isText = (text: string) => text.isWellFormed() && !/[\0\x80-\x9f\uFFFD]/.test(text)
FormatRegistry.Set('text', isText)
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it is about
FormatRegistry.Set('line', (text) => isText(text) && !/[\x00-\x1f\x7f]/.test(text))
/** Formats that validation alone knows: the document describes them in words. */
export const ownFormats = ['text', 'line']

/** Stands for the id of a video in examples. */
export const exampleId = '0192f0c1-7a3e-7c43-8f1d-3a5b6c7d8e9f'
/** Stands for the gateway's own address in examples. */
export const exampleOrigin = 'https://video-gateway.example'

/** RFC 9457, with a stable code. */
export const ProblemDocument = Type.Object(
  {
    type: Type.String({ description: 'Path of a page that explains the error: `/problems/{code}`.' }),
    title: Type.String(),
    status: Type.Integer(),
    detail: Type.String(),
    instance: Type.String({ description: 'Request path.' }),
    code: Type.String({ description: 'Stable error code; branch on it.' }),
    requestId: Type.String({
      description: 'Id of this request in the gateway’s log; send it to the operator.',
    }),
    errors: Type.Optional(Type.Array(Type.Object({ path: Type.String(), message: Type.String() }))),
  },
  { $id: 'Problem' },
)

export const IdParams = Type.Object({
  id: Type.String({ description: 'The gateway’s id of the video.', examples: [exampleId] }),
})
