import { type Provider, read, write } from './shape.ts'

export const cognito: Provider[] = [
  {
    name: 'Amazon Cognito: no audience, prefixed scopes',
    path: '/eu-central-1_AbCdEf123',
    env: {
      OAUTH_AUDIENCE: '7lhlkkfbfb4q5kpp90urffao,2mobile',
      OAUTH_AUDIENCE_CLAIM: 'client_id',
      OAUTH_SCOPE_MAP: 'gateway/videos:read=videos:read,gateway/videos:write=videos:write',
    },
    header: {},
    tokens: [
      {
        what: 'client credentials',
        payload: {
          sub: '7lhlkkfbfb4q5kpp90urffao',
          token_use: 'access',
          scope: 'gateway/videos:read gateway/videos:write',
          auth_time: 1_700_000_000,
          version: 2,
          client_id: '7lhlkkfbfb4q5kpp90urffao',
        },
        name: '7lhlkkfbfb4q5kpp90urffao',
        scopes: [read, write],
      },
      {
        what: 'user',
        payload: {
          sub: 'u',
          token_use: 'access',
          scope: 'openid gateway/videos:read',
          client_id: '2mobile',
          username: 'a',
        },
        name: '2mobile',
        scopes: [read],
      },
      {
        what: 'scope of another resource server',
        payload: { sub: 'u', token_use: 'access', scope: 'other/videos:read', client_id: '2mobile' },
        scopes: [],
      },
      {
        what: 'another client of the pool',
        payload: { sub: 'u', token_use: 'access', scope: 'gateway/videos:read', client_id: 'other' },
        scopes: 'refused',
      },
      {
        what: 'ID token',
        payload: { sub: 'u', aud: '2mobile', token_use: 'id', at_hash: 'x', scope: 'gateway/videos:read' },
        scopes: 'refused',
      },
    ],
  },
]
