create or replace temp table in_doubt as
select distinct key from "new_purchase"."in_flight";

delete from "new_purchase"."change_set" where key in (select key from in_doubt);

insert into "new_purchase"."change_set"
select key, kind, changed, case kind when 'insert' then 1 when 'update' then 2 when 'adopt' then 2 when 'delete' then 1 end
from (
  select f.key, s."new_purchaseid" as found,
         case when d."cusD365id" is null then 'delete' else 'adopt' end as kind,
         case when d."cusD365id" is not null and m."cusD365id" is not null then ['cusName', 'cusChannel', 'cusContactId']::varchar[] end as changed
  from in_doubt as f
  left join "new_purchase"."desired" as d on d."cusD365id" = f.key
  left join "new_purchase"."mirror" as m on m."cusD365id" = f.key
  left join "new_purchase"."snapshot" as s on s."new_purchaseid" = f.key
)
where kind <> 'delete' or (found is null and false) or (found is not null and true);
